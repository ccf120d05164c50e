"""`cluster unlock-key`, `cluster unlock` (registered by `commands.cluster`). The key is never on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from swarmctl.client import Client
from swarmctl.invocation import Invocation
from swarmctl.show import Kind, show_one
from swarmctl.verbs import verb
from swarmd.errors import FailedPrecondition, Invalid
from swarmd.wire.cluster import GetCluster, GetUnlockKey, Unlock, UnlockKeyReply, UpdateCluster
from swarmd.wire.methods import CA_UNLOCK_KEY, CLUSTER_GET, CLUSTER_UNLOCK, CLUSTER_UPDATE

KEY_FILE_BYTES_MAX: Final = 1024


def register(app: typer.Typer) -> None:
    """Add both to the verbs of `cluster`."""

    @verb(app, "unlock-key")
    def unlock_key(
        call: Invocation,
        *,
        rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key first; the old one is void.")] = False,
    ) -> None:
        """Show the key that a manager needs after a restart while autolock is on."""
        with call.client() as client:
            if rotate:
                _rotate(client)
            reply = client.read(CA_UNLOCK_KEY, GetUnlockKey())
        if not reply.key:
            raise _no_key()
        show_one(call, _KEY, reply, lambda: _in_words(reply))

    @verb(app, "unlock")
    def unlock(
        call: Invocation,
        *,
        key_file: Annotated[
            str | None, typer.Option("--key-file", metavar="PATH", help="Read the key from this file.")
        ] = None,
    ) -> None:
        """Give a locked manager the unlock key: typed without echo, from a file, or from standard input."""
        with call.client() as client:
            if not client.status().locked:
                raise FailedPrecondition("this node is not locked")
            unlocked = client.read(CLUSTER_UNLOCK, Unlock(key=_key(call, key_file)))
        call.line(unlocked.node_id if call.quiet else f"node {unlocked.node_id} is unlocked")


_KEY: Final[Kind[UnlockKeyReply]] = Kind(
    lambda reply: reply.shown,
    lambda reply: reply.shown,
    lambda reply: {"unlock_key": reply.shown, "version": reply.version},
)


def _rotate(client: Client) -> None:
    cluster = client.read(CLUSTER_GET, GetCluster()).cluster
    if not cluster.spec.encryption.auto_lock_managers:
        raise _no_key()
    client.change(
        CLUSTER_UPDATE,
        UpdateCluster(id=cluster.id, spec=cluster.spec, version=cluster.meta.version, rotate_unlock_key=True),
    )


def _no_key() -> FailedPrecondition:
    return FailedPrecondition(
        "there is no unlock key: autolock is off", hint="swarmctl cluster update --autolock turns it on"
    )


def _in_words(reply: UnlockKeyReply) -> str:
    return (
        "After a restart every manager of this swarm is locked until it is given this key with `swarmctl cluster "
        f"unlock`:\n\n    {reply.shown}\n\n"
        "Keep it outside the swarm: without it a manager that was restarted cannot be used any more.\n"
    )


def _key(call: Invocation, key_file: str | None) -> str:
    if key_file is not None:
        return _read(Path(key_file))
    if call.environment.is_terminal():
        return call.environment.read_secret("Unlock key: ").strip()
    return call.environment.read_line().strip()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(KEY_FILE_BYTES_MAX).decode("ascii").strip()
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", field="--key-file") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path} does not hold an unlock key", field="--key-file") from None
