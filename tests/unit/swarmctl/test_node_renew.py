"""`node renew`, and how long a certificate holds in `node inspect` and `node ls -o json`."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from swarmctl.render.nodes import days_left
from swarmd.errors import NotFound
from swarmd.model import IssuanceState, NodeCertificate, NodeState
from swarmd.wire.control import GetObject, NodeView
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon, id_of, node_view

DAY = 86_400.0


def with_certificate(view: NodeView, certificate: NodeCertificate, *, seen: str = "") -> NodeView:
    status = replace(view.node.status, certificate=seen, state=NodeState.READY)
    return replace(view, node=replace(view.node, certificate=certificate, status=status))


def daemon_of(*steps: NodeCertificate, seen: tuple[str, ...] = ()) -> FakeDaemon:
    """A node whose certificate goes through these steps, one a look; the first is what it has before."""
    daemon = FakeDaemon()
    view = node_view("b", "node-2")
    daemon.nodes = [with_certificate(view, steps[0])]
    later = list(zip(steps[1:], (*seen, *[""] * len(steps)), strict=False))

    def renew(request: GetObject) -> NodeView:
        if request.id != id_of("b"):
            raise NotFound("nobody")
        return with_certificate(view, replace(steps[0], state=IssuanceState.ROTATE))

    def get(request: GetObject) -> NodeView:
        certificate, shown = later[0] if len(later) == 1 else later.pop(0)
        return with_certificate(view, certificate, seen=shown)

    daemon.handlers = {"node.renew": renew, "node.get": get}
    return daemon


OLD = NodeCertificate(state=IssuanceState.ISSUED, fingerprint="old", expires_at=NOW + 40 * DAY)
NEW = NodeCertificate(state=IssuanceState.ISSUED, fingerprint="new", expires_at=NOW + 90 * DAY)


def test_it_asks_for_each_node_and_prints_its_id() -> None:
    daemon = daemon_of(OLD, NEW)
    done = daemon.run("node", "renew", "node-2")
    assert (done.code, done.out.strip()) == (0, id_of("b"))
    assert daemon.asked("node.renew") == [GetObject(id=id_of("b"))]


def test_with_wait_it_returns_once_the_node_was_seen_with_the_new_one() -> None:
    told = replace(OLD, state=IssuanceState.ROTATE)
    daemon = daemon_of(OLD, told, NEW, NEW, seen=("", "old", "new"))
    done = daemon.run("node", "renew", "node-2", "--wait")
    assert done.code == 0, done.err
    assert "waiting for it to ask" in done.err
    assert "waiting to see it with its new certificate" in done.err
    assert "renewed" in done.err


def test_with_wait_a_refused_request_is_a_failure_with_its_reason() -> None:
    failed = NodeCertificate(state=IssuanceState.FAILED, error="the external CA says no")
    done = daemon_of(OLD, failed).run("node", "renew", "node-2", "--wait")
    assert done.code == 10
    assert "the external CA says no" in done.err


@pytest.mark.parametrize(
    ("left_s", "words"),
    [
        (40 * DAY + 5, "in 40 days"),
        (DAY, "in 1 day"),
        (5 * 3600 + 1, "in 5 hours"),
        (60, "in 1 minute"),
        (3, "in less than a minute"),
        (-3, "expired just now"),
        (-2 * DAY, "expired 2 days ago"),
    ],
)
def test_days_left_in_words(left_s: float, words: str) -> None:
    assert days_left(NOW + left_s, NOW) == words


def test_node_inspect_says_how_long_the_certificate_holds() -> None:
    daemon = daemon_of(OLD, OLD)
    out = daemon.run("node", "inspect", "node-2").out
    (line,) = [line for line in out.splitlines() if "Certificate expires" in line]
    assert line.split(":", 1)[1].strip() == "in 40 days"
    assert "Certificate expires" not in daemon_of(NodeCertificate(), OLD).run("node", "inspect", "node-2").out


def test_node_ls_as_json_has_the_instant() -> None:
    daemon = daemon_of(OLD, OLD)
    (node,) = json.loads(daemon.run("node", "ls", "-o", "json").out)
    assert node["certificate"]["expires_at"] == "2027-02-24T08:00:00Z"
