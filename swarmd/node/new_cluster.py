"""`--force-new-cluster`: before this manager starts, its log is made that of a group of its own (SwarmKit 2.14)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final, Protocol

import msgspec
import trio

from swarmd.errors import FailedPrecondition, SwarmError
from swarmd.manager.alone import Plan, plan_alone
from swarmd.manager.offline import OfflineLog
from swarmd.model import Role
from swarmd.node.founding import FEATURES
from swarmd.node.identity import StateDirectory, belong_together
from swarmd.node.offline_log import offline_log, sealer_for
from swarmd.node.transport import NodeTransport
from swarmd.pki import read_subject
from swarmd.raft import Member
from swarmd.storage.known_managers import KnownManager
from swarmd.storage.log_copy import LOG_NAME
from swarmd.storage.log_store import LogBatch, LogStore
from swarmd.transport.connection import Connection
from swarmd.transport.credentials import Credentials
from swarmd.wire.methods import HEALTH
from swarmd.wire.peer import HealthRequest
from swarmd.wire.raft_codec import encode_runs

log = logging.getLogger(__name__)

ASK_S_MAX: Final = 3.0
"""How long the other members have to show that they are not lost."""


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


def refuse_if_empty(directory: StateDirectory) -> None:
    """Raise `FailedPrecondition` if nothing is there, before the daemon makes anything. Blocking."""
    if not directory.certificates.is_dir():
        raise FailedPrecondition(
            f"--force-new-cluster: there is no state in {directory.path}",
            hint="give the state directory of a manager that survived with -d, or leave the flag out",
        )


def refuse_unless_manager(directory: StateDirectory) -> None:
    """Raise `FailedPrecondition` unless a manager's state is here, `StorageDamaged`, `StorageFailed`. Blocking."""
    pair = directory.identity.pair(belong_together)
    if pair is None or directory.identity.root() is None:
        raise FailedPrecondition(
            f"--force-new-cluster: {directory.path} does not hold the state of a manager",
            hint="give the state directory of a manager that survived with -d, or leave the flag out",
        )
    if read_subject(pair[0]).role is not Role.MANAGER:
        raise FailedPrecondition(
            "--force-new-cluster: this node is a worker and does not have the swarm's state",
            hint="start a manager that survived with it, or restore a backup",
        )
    if LogStore.read_identity(directory.raft / LOG_NAME) is None:
        raise FailedPrecondition(
            f"--force-new-cluster: {directory.raft} does not hold a log",
            hint="start a manager that survived with it, or restore a backup; nothing was changed",
        )


async def form_alone(directory: StateDirectory, *, now: Callable[[], float], rng: random.Random) -> None:
    """Make this member the only one of its group, durably, before anything of it runs. Once it is so, nothing is done.

    The log changes in one transaction, so a crash leaves the old group or the new one; the same flag again finishes.
    Raises `FailedPrecondition` (nothing was changed) while another manager still has a leader, `StorageDamaged`,
    `StorageFailed`, `Invalid`. `Cancelled` leaves the old group or the new one.
    """
    await trio.to_thread.run_sync(refuse_unless_manager, directory)
    with _opened(directory) as (store, offline):
        plan = await trio.to_thread.run_sync(lambda: plan_alone(offline, now=now(), rng=rng))
        if not plan.entries:
            log.warning("--force-new-cluster: this manager is the only one already; leave the flag out from now on")
        else:
            await refuse_if_led(plan.others, _dial_of(directory))
            for line in plan.lines:
                log.warning("--force-new-cluster: %s", line)
            await trio.to_thread.run_sync(_make_durable, store, plan)
            log.warning("--force-new-cluster: done; leave the flag out from now on, and let new managers join")
    await trio.to_thread.run_sync(_forget_others, directory, plan.own, now())


@contextmanager
def _opened(directory: StateDirectory) -> Iterator[tuple[LogStore, OfflineLog]]:
    """The log itself, to be changed. Blocking; nothing else runs in this process yet."""
    path = directory.raft / LOG_NAME
    store = LogStore.open(path, sealer_for(path, directory.data_keys, directory.seal))
    try:
        yield store, offline_log(store, directory)
    finally:
        store.close()


def _make_durable(store: LogStore, plan: Plan) -> None:
    store.write(LogBatch(hard_state=plan.hard_state, runs=encode_runs(plan.entries)))


def _forget_others(directory: StateDirectory, own: Member, now: float) -> None:
    """The saved managers are those that were lost: this node would go on asking them."""
    contents = directory.node_file.load()
    alone = (KnownManager(node_id=own.node_id, addresses=own.addresses, last_seen_at=now),)
    directory.node_file.save(msgspec.structs.replace(contents, managers=alone, has_been_member=True))


def _dial_of(directory: StateDirectory) -> Dial:
    pair, root = directory.identity.pair(belong_together), directory.identity.root()
    assert pair is not None
    assert root is not None
    return NodeTransport(Credentials(certificate=pair[0], key=pair[1], root=root), FEATURES).dial


async def refuse_if_led(others: tuple[Member, ...], dial: Dial) -> None:
    """Raise `FailedPrecondition` if one of these still has a leader: then the quorum is not lost, and a second group
    would run beside the first. Takes at most 3 s. Silence is no proof of the contrary, so the operator is told."""
    leaders: dict[str, str] = {}
    with trio.move_on_after(ASK_S_MAX):
        async with trio.open_nursery() as nursery:
            for member in others:
                for address in member.addresses:
                    nursery.start_soon(_ask, member, address, dial, leaders)
    if leaders:
        asked, leader = next(iter(leaders.items()))
        raise FailedPrecondition(
            f"the quorum is not lost: manager {asked} answers and has a leader (node {leader})",
            hint="start without --force-new-cluster; it is for one start, after the other managers were lost for good",
        )


async def _ask(member: Member, address: str, dial: Dial, leaders: dict[str, str]) -> None:
    try:
        async with dial(address) as connection:
            reply = await connection.call(HEALTH, HealthRequest())
    except SwarmError as error:
        log.info("manager %s at %s: %s", member.node_id, address, error)
        return
    if reply.node_id == member.node_id and reply.is_member and reply.leader_node_id:
        leaders[member.node_id] = reply.leader_node_id
    else:
        log.warning("manager %s answers at %s and has no leader: stop it", member.node_id, address)
