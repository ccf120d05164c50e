"""The part of a node that is a manager while its certificate says so, and what becomes of the log otherwise.

Whatever happens to it, the agent and its tasks live on: only what keeps a node from starting at all ends the daemon.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from swarmd.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated, Unavailable
from swarmd.manager import assembly
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.manager import Manager
from swarmd.manager.own_membership import MemberReplaced
from swarmd.model import Role
from swarmd.node.doors import Doors
from swarmd.node.identity import StateDirectory
from swarmd.node.memory import NodeMemory
from swarmd.pki import read_subject
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.quarantine import forget_keys, keep_keys, quarantine
from swarmd.transport.credentials import Credentials

log = logging.getLogger(__name__)

RESTART_S: Final = 16.0
"""After a fault the manager part is tried again this much later; the tasks do not notice (SwarmKit `node.go`)."""

_MENDED: Final = (
    StorageDamaged,
    MemberReplaced,
    StorageFailed,
    FailedPrecondition,
    PermissionDenied,
    NotFound,
    Unauthenticated,
    Unavailable,
)
"""What ends the manager part without ending the node, the gravest first. Anything else is a defect and travels."""


class ManagerPart:
    """Runs a `Manager` while the node is one, and the little that a worker serves while it is not.

    Args:
        make_manager: for each life as a manager.
        others: addresses of other managers, as far as this node knows.
        share: runs beside a manager that listens, to leave its token for neighbours.
        disk: told when the log's disk ended the manager part: the next manager waits for it with open doors.
    """

    def __init__(
        self,
        directory: StateDirectory,
        credentials: Credentials,
        memory: NodeMemory,
        doors: Doors,
        *,
        make_manager: Callable[[], Manager],
        others: Callable[[], tuple[str, ...]],
        share: Callable[[Manager], Awaitable[None]],
        disk: DiskHealth,
    ) -> None:
        self._directory = directory
        self._credentials = credentials
        self._memory = memory
        self._doors = doors
        self._make_manager = make_manager
        self._others = others
        self._share = share
        self._disk = disk
        self._role_changed = trio.Event()
        self._has_been_up = False
        self.manager: Manager | None = None
        """The present life as a manager, if there is one."""

    @property
    def role(self) -> Role:
        """What the certificate in use says."""
        return self._credentials.identity.role

    def certificate_changed(self) -> None:
        """Another certificate is in use. Never waits."""
        changed, self._role_changed = self._role_changed, trio.Event()
        changed.set()

    async def run(self) -> None:
        """Follow the role until cancelled.

        Raises `FailedPrecondition` for what keeps the node from starting (an address in use, a lost or damaged log of
        the only manager); once it was up, that is logged and tried again.
        """
        while True:
            failure: Exception | None = None
            try:
                if self.role is Role.MANAGER:
                    await self._be_manager()
                else:
                    await self._be_worker()
            except* _MENDED as group:
                failure = _gravest(group)
            if failure is not None:
                await self._mend(failure)

    async def _be_worker(self) -> None:
        await trio.to_thread.run_sync(self._forget_raft)
        await self._memory.save_membership(is_member=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._doors.run_as_worker)
            self._has_been_up = True
            while self.role is not Role.MANAGER:
                await self._role_changed.wait()
            nursery.cancel_scope.cancel()

    def _forget_raft(self) -> None:
        """A worker has no log: what a demoted manager knew is erased. What was set aside stays, and without its keys
        nobody reads it any more. Only then is the node's key unsealed, for the data keys never are. Blocking."""
        assembly.delete(self._directory.raft)
        forget_keys(self._directory.raft, self._directory.data_keys)
        _unlink(self._directory.data_keys)
        self._directory.keys.lay_down(lambda certificate: read_subject(certificate).role is Role.MANAGER)

    async def _be_manager(self) -> None:
        manager = self._make_manager()
        try:
            # Before the log is open nothing may be promised, so the fact that there is one is saved first.
            await self._memory.save_membership(is_member=True)
            # Before a rotation may delete one: what an earlier life set aside is readable with its own keys only.
            await trio.to_thread.run_sync(keep_keys, self._directory.raft, self._directory.data_keys)
            async with trio.open_nursery() as nursery:
                self.manager = manager
                await nursery.start(self._doors.run_as_manager, manager)
                await nursery.start(manager.run)
                nursery.start_soon(self._share, manager)
                while self.role is Role.MANAGER:
                    await self._role_changed.wait()
                log.info("not a manager any more")
                nursery.cancel_scope.cancel()
        finally:
            self.manager = None
            self._has_been_up |= manager.log_is_open.is_set()

    # -- when it does not go on ----------------------------------------------------------------------------------

    async def _mend(self, failure: Exception) -> None:
        match failure:
            case StorageDamaged() | MemberReplaced():
                try:
                    await self._set_log_aside(failure)
                    return
                except (StorageFailed, FailedPrecondition) as worse:
                    failure = worse
        if isinstance(failure, FailedPrecondition) and not self._has_been_up:
            raise failure
        pause_s = RESTART_S
        if isinstance(failure, StorageFailed):
            self._disk.count_failure(failure)
            pause_s = self._disk.pause_s
        log.error("the manager part stops, tasks go on; next try in %.1f s: %s", pause_s, failure)
        with trio.move_on_after(pause_s):
            await self._role_changed.wait()

    async def _set_log_aside(self, reason: Exception) -> None:
        """A damaged log is never cut, a former member's never used: this node joins again as a new member.

        Raises `FailedPrecondition` if there is nobody to join, and `StorageFailed`.
        """
        if not self._others():
            raise FailedPrecondition(
                f"the log of the only manager is damaged: {reason}",
                hint="restore a backup; nothing was changed or deleted",
            )
        aside = await trio.to_thread.run_sync(quarantine, self._directory.raft)
        log.error("the log is set aside as %s, joining anew: %s", aside, reason)


def _gravest(group: BaseExceptionGroup[Exception]) -> Exception:
    leaves = _leaves(group)
    return min(leaves, key=lambda leaf: next(rank for rank, kind in enumerate(_MENDED) if isinstance(leaf, kind)))


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for inner in group.exceptions:
        found += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return found


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"cannot delete {path}: {error.strerror}") from error
