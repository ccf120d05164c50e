"""Flags, logging, signals, exit status. No behaviour."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from swarmd import __version__
from swarmd.errors import (
    EXIT_BAD_CONFIG,
    EXIT_LOCKED,
    EXIT_NO_MANAGER,
    Invalid,
    Locked,
    SwarmError,
    Unavailable,
    Unimplemented,
)
from swarmd.model.generic_resources import parse_generic_resources
from swarmd.node.config import (
    DEFAULT_CONTROL_SOCKET,
    DEFAULT_ENGINE_ADDR,
    DEFAULT_HOST,
    DEFAULT_PORT,
    DEFAULT_STATE_DIR,
    Config,
    check,
    parse_endpoint,
    parse_group,
)

log = logging.getLogger("swarmd")

STOP_S_MAX: Final = 10.0
"""A graceful stop takes no longer; a second signal ends it at once."""

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, style: str) -> None:
    """Send the log to stderr. Raises `Invalid` naming the flag."""
    if level not in LEVELS:
        raise Invalid(f"unknown level {level!r}", field="--log-level", hint=f"one of {', '.join(LEVELS)}")
    if style not in ("text", "json"):
        raise Invalid(f"unknown format {style!r}", field="--log-format", hint="text or json")
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Libraries speak only when something is wrong; the level is about us.
    logging.getLogger("swarmd").setLevel(LEVELS[level])


async def run_until_signalled(config: Config) -> None:
    """Live one node's life until SIGTERM or SIGINT, then stop within 10 s; tasks stay."""
    from swarmd.node.node import Node  # the daemon's whole import tree: not needed to refuse a bad flag

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        node = Node(config)
        async with trio.open_nursery() as watch:
            watch.start_soon(_stop_on_signal, signals, node.stop)
            await node.run()
            watch.cancel_scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], stop: Callable[[], None]) -> None:
    number = await anext(signals)
    log.info("%s: stopping; tasks keep running", signal.Signals(number).name)
    stop()
    with trio.move_on_after(STOP_S_MAX):
        await anext(signals)
    log.error("not stopped in time, or told twice: leaving at once, as after a crash")
    logging.shutdown()
    os._exit(1)


def exit_status(error: SwarmError) -> int:
    """swarmd's exit status for an error at start."""
    if isinstance(error, Locked):
        return EXIT_LOCKED
    if isinstance(error, Invalid | Unimplemented):
        return EXIT_BAD_CONFIG
    return EXIT_NO_MANAGER if isinstance(error, Unavailable) else 1


def tell(error: SwarmError) -> None:
    """One line, and a hint where one helps."""
    where = f"{error.field}: " if error.field else ""
    print(f"Error: {where}{error.message}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"Hint: {error.hint}", file=sys.stderr)  # noqa: T201


def raise_file_limit() -> None:
    """Each session is a socket: use all the files we are allowed. Systemd and shells start us with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        log.warning("the limit of open files stays %d: %s", soft, error)


def run(config: Config) -> int:
    """Run the daemon; returns its exit status."""
    status = 0
    raise_file_limit()
    try:
        trio.run(run_until_signalled, config)
    except* SwarmError as group:
        error = _first(group)
        tell(error)
        status = exit_status(error)
    return status


def _first(group: BaseExceptionGroup[SwarmError]) -> SwarmError:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, SwarmError)
    return inner


UsageError: Final[Any] = typer.BadParameter.__mro__[1]
"""Of the Click that Typer brings along, whichever that is."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


raft = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(raft, name="raft", help="Look into the Raft log of a stopped manager. Nothing is changed.")

UnlockKeyOption = Annotated[
    Path | None, typer.Option("--unlock-key-file", help="File with the unlock key, if the manager's keys are locked.")
]
StateDirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The state directory of a stopped manager.")]


@raft.command("dump")
def raft_dump(
    state_dir: StateDirArgument,
    *,
    first: Annotated[int, typer.Option("--from", min=0, help="First index to print.")] = 0,
    last: Annotated[int, typer.Option("--to", min=0, help="Last index to print; 0: to the end.")] = 0,
    objects: Annotated[bool, typer.Option("--objects", help="The objects as of --to, instead of the log.")] = False,
    unredacted: Annotated[bool, typer.Option("--unredacted", help="Print keys, tokens and environments too.")] = False,
    unlock_key_file: UnlockKeyOption = None,
) -> None:
    """Print hard state, snapshot, membership and entries, or the objects they lead to, one JSON object a line."""
    from swarmd.manager.dump import Range
    from swarmd.node.inspection import dump_lines, object_lines

    def lines() -> Iterator[str]:
        if not objects:
            return dump_lines(
                state_dir.absolute(), Range(first=first, last=last), unredacted=unredacted, key_file=unlock_key_file
            )
        if first:
            raise Invalid("objects are as of one index", field="--from", hint="leave it out; --to names the index")
        return object_lines(state_dir.absolute(), up_to=last, unredacted=unredacted, key_file=unlock_key_file)

    _answer(lines)


@raft.command("verify")
def raft_verify(
    state_dir: StateDirArgument,
    *,
    up_to: Annotated[int, typer.Option("--to", min=0, help="Replay to this index; 0: what is committed.")] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json.")] = "text",
    unlock_key_file: UnlockKeyOption = None,
) -> None:
    """Check seals, order and snapshot, replay them, and print what they add up to. Exit 1 for damage."""
    from swarmd.node.inspection import report, to_json, verify

    def lines() -> Iterator[str]:
        if output not in ("text", "json"):
            raise Invalid(f"unknown format {output!r}", field="--output", hint="text or json")
        found = verify(state_dir.absolute(), up_to=up_to, key_file=unlock_key_file)
        yield (to_json(found) if output == "json" else report(found)).rstrip("\n")

    _answer(lines)


def _answer(lines: Callable[[], Iterator[str]]) -> None:
    """Print an answer as it comes. A reader that has seen enough (`| head`) is no error."""
    try:
        for line in lines():
            print(line)  # noqa: T201
        sys.stdout.flush()
    except SwarmError as error:
        sys.stdout.flush()
        tell(error)
        raise typer.Exit(exit_status(error)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def swarmd(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("-v", "--version", help="Print the version and exit.")] = False,  # noqa: FBT002
    state_dir: Annotated[Path, typer.Option("-d", "--state-dir", help="Where everything is kept.")] = DEFAULT_STATE_DIR,
    listen_control_api: Annotated[
        Path | None, typer.Option(help=f"Control socket.  [default: {DEFAULT_CONTROL_SOCKET}]")
    ] = None,
    control_group: Annotated[
        str | None, typer.Option(help="Group whose members may use the control socket, too.")
    ] = None,
    listen_remote_api: Annotated[
        str | None, typer.Option(help=f"Where a manager listens.  [default: {DEFAULT_HOST}:{DEFAULT_PORT}]")
    ] = None,
    advertise_remote_api: Annotated[
        list[str] | None, typer.Option(help="Address told to the others; may be repeated.")
    ] = None,
    hostname: Annotated[str | None, typer.Option(help="Name shown for this node.")] = None,
    join_addr: Annotated[str | None, typer.Option(help="A manager of the swarm to join.")] = None,
    join_token: Annotated[str | None, typer.Option(help="Token from `swarmctl cluster join-token`.")] = None,
    executor: Annotated[str, typer.Option(help="What runs tasks: docker or process.")] = "docker",
    engine_addr: Annotated[
        str, typer.Option(help="Where the Docker engine listens, unix:///PATH or tcp://HOST:PORT.")
    ] = DEFAULT_ENGINE_ADDR,
    generic_node_resources: Annotated[
        str, typer.Option(help="What this node has besides CPU and memory: licence=3,gpu=UUID1,gpu=UUID2.")
    ] = "",
    heartbeat_tick: Annotated[int, typer.Option(help="Raft heartbeat, in ticks of 100 ms.")] = 1,
    election_tick: Annotated[int, typer.Option(help="Ticks without a leader before an election.")] = 10,
    force_new_cluster: Annotated[  # noqa: FBT002
        bool,
        typer.Option("--force-new-cluster", help="After the other managers were lost for good: go on without them."),
    ] = False,
    unlock_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the unlock key. Without one a locked manager waits for swarmctl cluster unlock."),
    ] = None,
    log_level: Annotated[str, typer.Option("-l", "--log-level", help="debug, info, warn or error.")] = "info",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Run one node of the swarm: bootstraps a new swarm unless --join-addr is given or the state directory has one."""
    if ctx.invoked_subcommand is not None:
        return
    if version:
        print(f"swarmd {__version__}")  # noqa: T201
        return
    try:
        set_up_logging(log_level, log_format)
        config = Config(
            state_dir=state_dir.absolute(),
            control_socket=listen_control_api.absolute() if listen_control_api else None,
            control_group=parse_group(control_group) if control_group is not None else None,
            listen=parse_endpoint(listen_remote_api, flag="--listen-remote-api", default_port=DEFAULT_PORT)
            if listen_remote_api
            else None,
            advertise=tuple(parse_endpoint(a, flag="--advertise-remote-api") for a in advertise_remote_api or ()),
            hostname=hostname,
            join_addr=parse_endpoint(join_addr, flag="--join-addr", default_port=DEFAULT_PORT) if join_addr else None,
            join_token=join_token,
            executor=executor,
            engine_addr=engine_addr,
            generic_resources=parse_generic_resources(generic_node_resources, field="--generic-node-resources"),
            heartbeat_tick=heartbeat_tick,
            election_tick=election_tick,
            force_new_cluster=force_new_cluster,
            unlock_key_file=unlock_key_file.absolute() if unlock_key_file else None,
        )
        check(config)
    except SwarmError as error:
        tell(error)
        raise typer.Exit(exit_status(error)) from None
    raise typer.Exit(run(config))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `swarmd` command. A command line that cannot be understood is told in one line too."""
    try:
        status = app(arguments, standalone_mode=False)
    except UsageError as error:
        tell(Invalid(error.format_message(), hint="see swarmd --help"))
        status = EXIT_BAD_CONFIG
    except typer.Abort:
        status = 128 + signal.SIGINT
    sys.exit(status)


if __name__ == "__main__":
    main()
