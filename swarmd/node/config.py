"""What the operator asked for on the command line, checked as a whole before anything starts."""

from __future__ import annotations

import grp
import ipaddress
import re
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import Invalid
from swarmd.manager.join_limits import JOINS_PER_S
from swarmd.model import GenericResource
from swarmd.pki.tokens import parse_token

DEFAULT_STATE_DIR: Final = Path("/var/lib/swarmd")
DEFAULT_CONTROL_SOCKET: Final = Path("/var/run/swarmd.sock")
DEFAULT_HOST: Final = "0.0.0.0"
DEFAULT_PORT: Final = 4242
EXECUTORS: Final = ("docker", "process")
DEFAULT_ENGINE_ADDR: Final = "unix:///var/run/docker.sock"
TICKS_MAX: Final = 1000
GID_MAX: Final = 2**32 - 1

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Endpoint(msgspec.Struct, frozen=True):
    """`host:port`. Port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon's settings. `None` means that the flag was not given and the default applies."""

    state_dir: Path = DEFAULT_STATE_DIR
    control_socket: Path | None = None
    control_group: int | None = None
    """Whose members may use the control socket besides its owner (gid)."""
    listen: Endpoint | None = None
    advertise: tuple[Endpoint, ...] = ()
    hostname: str | None = None
    join_addr: Endpoint | None = None
    join_token: str | None = None
    executor: str = "docker"
    engine_addr: str = DEFAULT_ENGINE_ADDR
    generic_resources: tuple[GenericResource, ...] = ()
    """What this node has besides CPU and memory."""
    heartbeat_tick: int = 1
    election_tick: int = 10
    force_new_cluster: bool = False
    """Make this manager the only one, after the others were lost for good. Whom it once joined does not matter then."""
    unlock_key_file: Path | None = None
    """Where the unlock key of a manager whose keys are sealed is looked for, before it is waited for."""
    joins_per_s: float = JOINS_PER_S
    """New nodes that this node lets in as a leader; no flag sets it. Infinity, where a benchmark measures joins."""


def parse_group(name: str) -> int:
    """The gid of a group by name or number. Raises `Invalid` naming the flag."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if re.fullmatch("[0-9]{1,10}", name) and int(name) < GID_MAX:
            return int(name)
    raise Invalid(f"there is no group {name!r}", field="--control-group", hint="`getent group` lists those there are")


def parse_endpoint(text: str, *, flag: str, default_port: int | None = None) -> Endpoint:
    """`host:port`, `[v6]:port`, or `host` where `default_port` allows it. Raises `Invalid` naming the flag."""
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[^:\[\]\s/]*))(?::(?P<port>[0-9]{1,5}))?", text)
    port_text = match["port"] if match else None
    port = int(port_text) if port_text else default_port
    host = (match["v6"] or match["host"] or "") if match else ""
    is_v6 = bool(match and match["v6"])
    if match is None or not host or port is None or port > 65535 or (is_v6 and not _is_v6(host)):
        raise Invalid(f"{text!r} is not an address", field=flag, hint="write HOST:PORT, for example 10.0.0.5:4242")
    return Endpoint(host, port)


def _is_v6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def check(config: Config) -> None:
    """Raise `Invalid`, naming the flag, unless a daemon could run with `config`."""
    if config.executor not in EXECUTORS:
        raise Invalid(
            f"unknown executor {config.executor!r}", field="--executor", hint=f"one of {', '.join(EXECUTORS)}"
        )
    _check_engine_addr(config.engine_addr)
    if config.hostname is not None and not _HOSTNAME.fullmatch(config.hostname):
        raise Invalid(
            f"{config.hostname!r} is not a host name",
            field="--hostname",
            hint="letters, digits, '-', '_' and '.', at most 63, beginning and ending with a letter or digit",
        )
    if not 1 <= config.heartbeat_tick <= TICKS_MAX:
        raise Invalid("must be 1 or more", field="--heartbeat-tick", hint="a tick is 100 ms")
    if not 3 * config.heartbeat_tick <= config.election_tick <= TICKS_MAX:
        raise Invalid(
            f"{config.election_tick} is too small or too large for a heartbeat of {config.heartbeat_tick}",
            field="--election-tick",
            hint=f"at least three heartbeats, at most {TICKS_MAX}; a tick is 100 ms",
        )
    if config.join_token is not None:
        if config.join_addr is None:
            raise Invalid("a token needs a manager to show it to", field="--join-token", hint="add --join-addr")
        parse_token(config.join_token)
    for endpoint in config.advertise:
        if endpoint.port == 0 or endpoint.host in ("0.0.0.0", "::"):
            raise Invalid(
                f"{endpoint} is no address that others could dial",
                field="--advertise-remote-api",
                hint="give the address of this machine as the other managers see it",
            )


def _check_engine_addr(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return
    if separator and scheme == "tcp":
        parse_endpoint(rest, flag="--engine-addr")
        return
    raise Invalid(
        f"{text!r} is not the address of an engine",
        field="--engine-addr",
        hint=f"write unix:///PATH or tcp://HOST:PORT; the default is {DEFAULT_ENGINE_ADDR}",
    )
