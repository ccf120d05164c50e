"""A manager whose keys are sealed: the key is looked for in files, and else waited for, with the control socket open.

The node takes no part meanwhile, and its tasks run on without it; they are adopted once it is unlocked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio

from swarmd import __version__
from swarmd.errors import FailedPrecondition, Invalid, ResourceExhausted
from swarmd.model import Role
from swarmd.node.config import Config
from swarmd.node.doors import serve_at_managers_path
from swarmd.node.identity import StateDirectory
from swarmd.node.transport import anonymous_hello
from swarmd.pki.unlock_key import Owner, parse_unlock_key
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.transport.connection import Call, Router
from swarmd.transport.listener import ControlSocket
from swarmd.wire import methods
from swarmd.wire.authorise import CertificatesOnly, authorise
from swarmd.wire.cluster import Unlock, Unlocked
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import Method

log = logging.getLogger(__name__)

CREDENTIAL: Final = "swarmd-unlock-key"
"""Name of the systemd credential (`LoadCredential=swarmd-unlock-key:PATH`)."""
PAUSE_S: Final = 1.0
"""Between two tries at the socket. 2^256 keys are out of reach anyhow: this keeps the log and the CPU quiet."""
ANSWER_S: Final = 0.2
_RESTORE: Final = "restore it from a backup, or join again with an empty state directory; nothing was deleted"
FILE_BYTES_MAX: Final = 1024


def key_files(config: Config, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the unlock key may be, the first that fits wins: what was asked for, then the systemd credential."""
    found = [config.unlock_key_file] if config.unlock_key_file is not None else []
    directory = environment.get("CREDENTIALS_DIRECTORY", "")
    if directory and (credential := Path(directory) / CREDENTIAL).exists():
        found.append(credential)
    return tuple(found)


def read_key_file(path: Path) -> bytes:
    """The key in a file, blanks and line ends around it ignored. Blocking. Raises `Invalid` naming the file."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        text = content.decode("ascii").strip()
    except OSError as error:
        raise Invalid(f"cannot read the unlock key from {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path} does not hold an unlock key") from None
    try:
        return parse_unlock_key(text)
    except Invalid as error:
        raise Invalid(f"{path}: {error.message}", hint=error.hint) from None


def unlock_from_files(directory: StateDirectory, files: tuple[Path, ...]) -> bool:
    """Try the keys in these files; whether the node is not locked (any more). Blocking.

    A file that does not help is one line in the log. Raises `StorageDamaged`, `StorageFailed`, `FailedPrecondition`.
    """
    if directory.keys.locked_for() is None:
        return True
    for path in files:
        try:
            directory.keys.unlock(read_key_file(path))
        except Invalid as error:
            log.error("%s does not unlock this manager: %s", path, error)
            continue
        log.info("unlocked with %s", path)
        _warn_if_others_can_read(path)
        return True
    return False


def _warn_if_others_can_read(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        log.warning("%s holds the unlock key, and other users may read it: chmod 600", path)


class Unlocking:
    """Waits at the control socket for whoever brings the key."""

    def __init__(self, config: Config, directory: StateDirectory, owner: Owner) -> None:
        self._config = config
        self._directory = directory
        self._identity = Identity(node_id=owner.node_id, role=Role.MANAGER, swarm_id=owner.swarm_id)
        self._unlocked = trio.Event()
        self._next_try_at = -float("inf")
        self._trying = trio.Lock()

    async def run(self) -> None:
        """Return once the node is unlocked. Raises as `Doors` does for a busy socket. `Cancelled` changes nothing."""
        router = Router(self._authorise)
        router.add(methods.STATUS, self._status)
        router.add(methods.CLUSTER_UNLOCK, self.unlock)
        for method in methods.METHODS.values():
            if method.socket and method not in (methods.STATUS, methods.CLUSTER_UNLOCK):
                router.add(method, _refuse)
        async with trio.open_nursery() as nursery:

            async def serve(path: Path, task_status: trio.TaskStatus[None]) -> None:
                await ControlSocket(path, self._identity, router, anonymous_hello).run(task_status=task_status)

            await nursery.start(serve_at_managers_path, self._config, self._directory, serve)
            log.warning(
                "node %s is locked: it takes no part until it is given the unlock key (swarmctl cluster unlock); "
                "its tasks run on",
                self._identity.node_id,
            )
            await self._unlocked.wait()
            await trio.sleep(ANSWER_S)  # the caller's answer is on its way, through a socket that is about to close
            nursery.cancel_scope.cancel()

    async def unlock(self, call: Call, request: Unlock) -> Unlocked:
        """Handler of `cluster.unlock`: one try a second. Raises `Invalid` for what is no key or not the one."""
        key = parse_unlock_key(request.key.strip()[:FILE_BYTES_MAX])
        async with self._trying:
            if (left_s := self._next_try_at - trio.current_time()) > 0:
                raise ResourceExhausted(f"one try a second: wait {left_s:.1f} s")
            self._next_try_at = trio.current_time() + PAUSE_S
            try:
                await trio.to_thread.run_sync(self._directory.keys.unlock, key)
            except StorageFailed as error:
                raise FailedPrecondition(str(error), hint="check the disk, its room, and who owns the files") from error
            except StorageDamaged as error:
                raise FailedPrecondition(f"a file of this node is damaged: {error}", hint=_RESTORE) from error
        log.info("unlocked at the control socket")
        self._unlocked.set()
        return Unlocked(node_id=self._identity.node_id)

    async def _status(self, call: Call, request: StatusRequest) -> StatusReply:
        return StatusReply(
            node_id=self._identity.node_id,
            swarm_id=self._identity.swarm_id,
            version=__version__,
            is_manager=True,
            session="locked",
            locked=True,
        )

    def _authorise(self, method: Method[Any, Any], caller: Caller) -> None:
        authorise(method, caller, CertificatesOnly(self._identity.swarm_id))


async def _refuse(call: Call, request: Any, *stream: Any) -> Any:
    raise FailedPrecondition("this manager is locked", hint="swarmctl cluster unlock")
