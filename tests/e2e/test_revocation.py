"""Who was demoted or removed keeps key and certificate, and gets nothing for them, on any manager."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from swarmd.errors import PermissionDenied, SwarmError, Unauthenticated
from swarmd.pki import new_key_and_csr, sign_renewal
from swarmd.transport.connection import Connection
from swarmd.transport.credentials import Credentials, joining_context
from swarmd.transport.dialer import dial
from swarmd.wire import ca, cluster, control, peer, watch
from swarmd.wire.frames import Hello
from swarmd.wire.methods import (
    CA_ISSUE,
    CA_UNLOCK_KEY,
    HEALTH,
    NODE_LIST,
    RAFT_JOIN,
    RAFT_LEAVE,
    WATCH,
    Method,
)
from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow

CUT_S_MAX: Final = 1.0
MANAGER_ONLY: Final[tuple[tuple[Method[Any, Any], Any], ...]] = (
    (NODE_LIST, control.ListNodes()),
    (CA_UNLOCK_KEY, cluster.GetUnlockKey()),
    (RAFT_JOIN, peer.JoinRequest(addresses=("127.0.0.1:1",), incarnation=b"x" * 16)),
    (RAFT_LEAVE, peer.LeaveRequest()),
)


class Thief:
    """Has what was in a node's state directory at some moment."""

    def __init__(self, machine: Machine) -> None:
        files = machine.state_dir / "certificates"
        self.certificate = (files / "swarm-node.crt").read_bytes()
        self.key = (files / "swarm-node.key").read_bytes()
        self.root = (files / "swarm-root-ca.crt").read_bytes()
        self.credentials = Credentials(certificate=self.certificate, key=self.key, root=self.root)

    def dial(self, port: int) -> Any:
        identity = self.credentials.identity
        hello = Hello(swarm=identity.swarm_id, node=identity.node_id)
        return dial(f"127.0.0.1:{port}", self.credentials.client_context(), hello)

    async def refusal(self, port: int, method: Method[Any, Any], request: Any) -> SwarmError | None:
        """How a call on a new connection is refused; None if it is served."""
        try:
            async with self.dial(port) as connection:
                await connection.call(method, request)
        except SwarmError as error:
            return error
        return None

    async def watch_refusal(self, port: int) -> SwarmError | None:
        try:
            async with self.dial(port) as connection, connection.open(WATCH, watch.WatchRequest()) as stream:
                await stream.receive()
        except SwarmError as error:
            return error
        return None

    async def renewal_refusal(self, port: int) -> SwarmError | None:
        """Through the door for expired certificates, which asks for a signature by the old key."""
        _, csr = new_key_and_csr()
        request = ca.IssueRequest(
            csr=csr, renewal_certificate=self.certificate, renewal_signature=sign_renewal(self.key, csr)
        )
        try:
            async with dial(
                f"127.0.0.1:{port}", joining_context(self.root), Hello(), server_name="swarm-ca"
            ) as connection:
                await connection.call(CA_ISSUE, request)
        except SwarmError as error:
            return error
        return None


async def _until_cut(
    thief: Thief, ports: list[int], change: Callable[[], subprocess.CompletedProcess[str]]
) -> list[float]:
    """Open a connection to each manager, make the change, and say how long after its answer each was cut."""
    cut: list[float] = []
    answered = [trio.current_time()]

    async def hold(port: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with thief.dial(port) as connection:
            await connection.call(HEALTH, peer.HealthRequest())
            task_status.started()
            await _closed(connection)
            cut.append(trio.current_time())

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for port in ports:
                await nursery.start(hold, port)
            await trio.to_thread.run_sync(change)
            answered[0] = trio.current_time()
    return [at - answered[0] for at in cut]


async def _closed(connection: Connection) -> None:
    await connection.closed.wait()


def _role(machine: Machine, node_id: str) -> str:
    return str(machine.json("node", "inspect", node_id)["role"]).lower()


def test_a_demoted_managers_old_certificate_is_a_workers_at_once(swarm: Swarm) -> None:
    former = swarm.join("former", role="manager")
    swarm.wait_voters(4)
    thief = Thief(former)
    survivors = list(swarm.machines[:3])
    ports = [machine.port() for machine in survivors]
    door = survivors[0]

    def demote() -> subprocess.CompletedProcess[str]:
        done = door.ctl("node", "demote", former.node_id)
        wait_until(lambda: all("worker" in _role(m, former.node_id) for m in survivors), 30, "it stays a manager")
        return done

    async def main() -> None:
        for port in ports:
            assert await thief.refusal(port, NODE_LIST, control.ListNodes()) is None, "it is a manager before"
        late = await _until_cut(thief, ports, demote)
        assert max(late) <= CUT_S_MAX
        for port in ports:
            for method, request in MANAGER_ONLY:
                refusal = await thief.refusal(port, method, request)
                assert isinstance(refusal, PermissionDenied), (port, method, refusal)
            assert isinstance(await thief.watch_refusal(port), PermissionDenied)

    trio.run(main)
    swarm.wait_voters(3)
    former.stop()
    door.ctl("node", "rm", "--force", former.node_id)
    swarm.machines.remove(former)


def test_a_removed_workers_connections_are_cut_and_every_door_is_shut(swarm: Swarm) -> None:
    former = swarm.join("removed", role="worker")
    thief = Thief(former)
    managers = swarm.machines[:3]
    ports = [machine.port() for machine in managers]

    async def main() -> None:
        late = await _until_cut(thief, ports, lambda: managers[0].ctl("node", "rm", "--force", former.node_id))
        assert max(late) <= CUT_S_MAX
        for port in ports:
            refusal = await thief.refusal(port, HEALTH, peer.HealthRequest())
            assert isinstance(refusal, PermissionDenied | Unauthenticated)
            assert "removed" in refusal.message
            _, csr = new_key_and_csr()
            refusal = await thief.refusal(port, CA_ISSUE, ca.IssueRequest(csr=csr))
            assert isinstance(refusal, PermissionDenied | Unauthenticated)
            refusal = await thief.renewal_refusal(port)
            assert isinstance(refusal, PermissionDenied)
            assert "removed" in refusal.message

    trio.run(main)
    former.stop()
    swarm.machines.remove(former)
