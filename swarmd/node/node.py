"""One daemon: its lock, its identity, its life, and the errors that the operator has to mend."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable

import msgspec
import trio

from swarmd.errors import FailedPrecondition
from swarmd.manager.manager import Manager
from swarmd.node.config import Config
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.life import Life
from swarmd.node.new_cluster import form_alone, refuse_if_empty
from swarmd.node.own_renewal import is_expired_manager, renew_own
from swarmd.node.transport import anonymous_hello
from swarmd.node.unlocking import Unlocking, key_files, unlock_from_files
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.lock import hold
from swarmd.storage.task_store import TaskStore


class Node:
    """Built from the flags; `run` is its whole life."""

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the one place where the clock comes in
        rng: random.Random | None = None,
    ) -> None:
        if config.force_new_cluster:  # the address in the unit file is most likely a lost manager's
            config = msgspec.structs.replace(config, join_addr=None, join_token=None)
        self.config = config
        self.now = now
        self.rng = rng or random.SystemRandom()
        self.directory = StateDirectory(config.state_dir)
        self.hostname = config.hostname or socket.gethostname()
        self._stopping = trio.Event()
        self._life: Life | None = None

    @property
    def manager(self) -> Manager | None:
        """The manager on this node, while it is one."""
        return self._life.manager if self._life is not None else None

    def stop(self) -> None:
        """Have `run` end: the agent says goodbye, the lead is handed over, tasks keep running."""
        self._stopping.set()

    async def run(self) -> None:
        """Live until `stop` or cancellation.

        Raises `SwarmError` (perhaps in a group) for what the operator must mend: a second daemon on the state
        directory, a damaged file, a refused token, an address in use. `Cancelled` is a crash as far as the swarm can
        tell, and loses nothing.
        """
        try:
            if self.config.force_new_cluster:
                refuse_if_empty(self.directory)
            with hold(self.directory.lock):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._live, nursery.cancel_scope)
                    await self._stopping.wait()
                    if self._life is None:  # nothing to say goodbye to yet
                        nursery.cancel_scope.cancel()
        except* StorageDamaged as group:
            raise FailedPrecondition(
                f"a file of this node is damaged: {_first(group)}",
                hint="restore it from a backup, or join again with an empty state directory; nothing was deleted",
            ) from group
        except* StorageFailed as group:
            raise FailedPrecondition(
                str(_first(group)), hint="check the disk, its room, and who owns the files"
            ) from group

    async def _live(self, whole: trio.CancelScope) -> None:
        await self._unlock()
        if self.config.force_new_cluster:
            await form_alone(self.directory, now=self.now, rng=self.rng)
        identity = await IdentityFinder(
            self.config, self.directory, hello=anonymous_hello, now=self.now, rng=self.rng
        ).find()
        is_overdue = is_expired_manager(identity, self.now())
        if is_overdue:
            identity = await trio.to_thread.run_sync(lambda: renew_own(self.directory, identity, now=self.now()))
        contents = await trio.to_thread.run_sync(self.directory.node_file.load)
        store = await trio.to_thread.run_sync(TaskStore.open, self.directory.tasks)
        try:
            self._life = Life(
                self.config,
                self.directory,
                identity,
                contents,
                store,
                hostname=self.hostname,
                now=self.now,
                rng=self.rng,
                is_overdue=is_overdue,
            )
            await self._life.run(self._stopping)
        finally:
            store.close()
        whole.cancel()

    async def _unlock(self) -> None:
        """Return once nothing here is sealed for which there is no key. Raises `Locked` where nobody is waited for."""
        files = key_files(self.config, os.environ)
        if await trio.to_thread.run_sync(unlock_from_files, self.directory, files):
            return
        if self.config.force_new_cluster:
            self.directory.keys.refuse_if_locked()
        owner = self.directory.keys.locked_for()
        if owner is not None:
            await Unlocking(self.config, self.directory, owner).run()


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
