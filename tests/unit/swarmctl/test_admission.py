"""`node accept` and `node reject`."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import Membership
from swarmd.wire.control import AcceptNode, NodeView, RejectNode, Removed
from tests.unit.swarmctl.fake_daemon import FakeDaemon, id_of, node_view

CODE = "abcd-efgh-jkmn-pqrs-tuvw-xyz2-3456"
OTHER = "2222-efgh-jkmn-pqrs-tuvw-xyz2-3456"


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    waiting = node_view("w", "web-1", membership=Membership.PENDING)
    daemon.nodes = [node_view("a", "node-1", member=1, leader=True), replace(waiting, join_code=CODE)]

    def accept(request: AcceptNode) -> NodeView:
        return next(view for view in daemon.nodes if view.node.id == request.id)

    daemon.handlers["node.accept"] = accept
    daemon.handlers["node.reject"] = lambda request: Removed(id=request.id)
    return daemon


@pytest.mark.parametrize("typed", [CODE, CODE.upper(), CODE.replace("-", "", 3)])
def test_a_code_finds_the_node_that_has_it(daemon: FakeDaemon, typed: str) -> None:
    result = daemon.run("node", "accept", typed)
    assert (result.code, result.out) == (0, f"{id_of('w')}\n")
    assert daemon.asked("node.accept") == [AcceptNode(id=id_of("w"), join_code=typed)]


def test_a_code_that_nobody_has_says_what_that_may_mean(daemon: FakeDaemon) -> None:
    result = daemon.run("node", "accept", OTHER)
    assert result.code == 3
    assert "no waiting node has the join code" in result.err
    assert "1 wait" in result.err
    assert daemon.asked("node.accept") == []


def test_a_node_with_its_code(daemon: FakeDaemon) -> None:
    assert daemon.run("node", "accept", "web-1", "--code", OTHER).code == 0
    # Whether it is the right one is the manager's to say.
    assert daemon.asked("node.accept") == [AcceptNode(id=id_of("w"), join_code=OTHER)]


def test_without_a_terminal_a_node_alone_is_not_enough(daemon: FakeDaemon) -> None:
    result = daemon.run("node", "accept", "web-1")
    assert result.code == 2
    assert "--code is missing" in result.err
    assert daemon.asked("node.accept") == []


@pytest.mark.parametrize(
    ("answer", "is_in"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_somebody_at_a_terminal_compares(daemon: FakeDaemon, answer: str, is_in: bool) -> None:
    daemon.is_terminal, daemon.typed = True, answer
    result = daemon.run("node", "accept", "web-1")
    assert CODE in result.err
    assert daemon.asked("node.accept") == ([AcceptNode(id=id_of("w"), join_code=CODE)] if is_in else [])
    assert (result.code == 0) is is_in


def test_a_node_that_is_in_is_not_asked_about(daemon: FakeDaemon) -> None:
    daemon.is_terminal = True
    result = daemon.run("node", "accept", "node-1")
    assert result.code == 4
    assert "does not wait" in result.err


def test_one_code_option_is_for_one_node(daemon: FakeDaemon) -> None:
    result = daemon.run("node", "accept", "web-1", "node-1", "--code", CODE)
    assert result.code == 2
    assert daemon.asked("node.accept") == []


def test_turned_away_by_code_or_name(daemon: FakeDaemon) -> None:
    for reference in (CODE, "web-1"):
        assert daemon.run("node", "reject", reference).out == f"{id_of('w')}\n"
    assert daemon.asked("node.reject") == [RejectNode(id=id_of("w"))] * 2


def test_inspect_shows_the_code_of_one_that_waits(daemon: FakeDaemon) -> None:
    assert f": {CODE}\n" in daemon.run("node", "inspect", "web-1").out
    assert "Join Code" not in daemon.run("node", "inspect", "node-1").out
