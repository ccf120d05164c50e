"""`cluster join-token`: the command to copy, the token alone, and a new one."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from swarmd.errors import EXIT_CODE, Conflict, ErrorKind
from swarmd.model import JoinTokens, Node, RootCA
from swarmd.wire.cluster import ClusterView, UpdateCluster
from swarmd.wire.control import ManagerStatus, NodeView
from tests.unit.swarmctl.fake_daemon import FakeDaemon


class Daemon(FakeDaemon):
    """Three managers, and tokens that get a number when they are rotated."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [
            NodeView(
                node=Node(id=f"{number}" * 25),
                manager=ManagerStatus(member_id=number, addresses=(f"10.0.0.{number}:4242",), is_leader=number == 2),
            )
            for number in (1, 2, 3)
        ] + [NodeView(node=Node(id="w" * 25))]
        self.conflicts = 0
        self.handlers["cluster.get"] = lambda _: ClusterView(cluster=self.cluster)
        self.handlers["cluster.update"] = self.update

    def update(self, request: UpdateCluster) -> ClusterView:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("update out of sequence")
        tokens = self.cluster.root_ca.join_tokens
        tokens = JoinTokens(
            worker=tokens.worker + "2" * request.rotate_worker_token,
            manager=tokens.manager + "2" * request.rotate_manager_token,
        )
        self.cluster = replace(self.cluster, root_ca=RootCA(join_tokens=tokens))
        return ClusterView(cluster=self.cluster)


@pytest.mark.parametrize(("role", "token"), [("worker", "SWMTKN-w"), ("manager", "SWMTKN-m")])
def test_the_whole_command_with_the_leaders_address_and_the_others(role: str, token: str) -> None:
    daemon = Daemon()
    out = daemon.run("cluster", "join-token", role).out
    assert f"\n    swarmd --join-addr 10.0.0.2:4242 --join-token {token}\n" in out
    assert out.endswith("Any other manager will do as well: 10.0.0.1:4242, 10.0.0.3:4242\n")
    assert f"To add a {role}" in out
    assert daemon.asked("cluster.update") == []


def test_the_token_alone_and_as_data() -> None:
    daemon = Daemon()
    assert daemon.run("cluster", "join-token", "worker", "-q").out == "SWMTKN-w\n"
    document = json.loads(daemon.run("cluster", "join-token", "manager", "-o", "json").out)
    assert document == {
        "role": "manager",
        "token": "SWMTKN-m",
        "addresses": ["10.0.0.2:4242", "10.0.0.1:4242", "10.0.0.3:4242"],
    }


@pytest.mark.parametrize("conflicts", [0, 1])
def test_rotating_makes_that_roles_token_new_and_shows_it(conflicts: int) -> None:
    daemon = Daemon()
    daemon.conflicts = conflicts
    done = daemon.run("cluster", "join-token", "worker", "--rotate", "-q")
    assert done.out == "SWMTKN-w2\n"
    assert "the old one lets nobody in" in done.err
    assert daemon.run("cluster", "join-token", "manager", "-q").out == "SWMTKN-m\n"
    sent: UpdateCluster = daemon.asked("cluster.update")[-1]
    assert (sent.rotate_worker_token, sent.rotate_manager_token, sent.rotate_unlock_key) == (True, False, False)
    assert sent.spec == daemon.cluster.spec


def test_an_unknown_role_is_refused_before_anybody_is_asked() -> None:
    daemon = Daemon()
    done = daemon.run("cluster", "join-token", "boss")
    assert done.code == EXIT_CODE[ErrorKind.INVALID]
    assert done.err == 'Error: "boss" is no role of a node\nHint: worker or manager\n'
    assert daemon.calls == []
