"""The command line against the real control API over the real state: bad input ends in one line and changes nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmd.errors import Unavailable
from swarmd.model import TaskState
from swarmd.state.features import ORCHESTRATION
from swarmd.wire import codec
from swarmd.wire.frames import Headers
from swarmd.wire.methods import Method
from tests.unit.manager.control_api.api_world import World, task_of
from tests.unit.swarmctl.fake_daemon import Result


class Swarm:
    """One manager behind a link that carries bytes."""

    def __init__(self) -> None:
        self.world = World()
        self.world.add_cluster()
        self.world.add_node("m1", member=1)
        self.world.add_node("w1")
        self.replies_lost = 0

    def run(self, *arguments: str) -> Result:
        """Run `swarmctl` with these arguments."""
        out, err = io.StringIO(), io.StringIO()
        environment = Environment(connect=lambda path: self._link(path), variables={}, out=out, err=err)
        code = run(arguments, environment)
        return Result(code, out.getvalue(), err.getvalue())

    def _link(self, path: Path) -> Swarm:
        return self

    def close(self) -> None:
        """Part of `Link`."""

    def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float, headers: Headers) -> Any:
        async def ask() -> Any:
            decoded = codec.decode(codec.encode(request), method.request)
            return await self.world.ask(
                method, decoded, key=headers.key, seen_index=headers.seen_index, stale=headers.stale
            )

        reply = codec.encode(trio.run(ask))
        if method.mutates and self.replies_lost:
            self.replies_lost -= 1
            raise Unavailable("connection lost")
        return codec.decode(reply, method.response)


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


def create(swarm: Swarm, name: str = "web", *more: str) -> Result:
    return swarm.run("service", "create", "--name", name, "--image", "redis", *more)


def test_a_service_lives_and_dies(swarm: Swarm) -> None:
    id = create(swarm, "web", "--replicas", "3").out.strip()
    assert len(id) == 25
    assert swarm.run("service", "update", "web", "--instances", "6").out == f"{id}\n"
    (listed,) = json.loads(swarm.run("service", "ls", "-o", "json").out)
    assert (listed["id"], listed["desired"], listed["spec_version"]) == (id, 6, 2)
    assert swarm.run("service", "inspect", id[:6]).code == 0
    assert swarm.run("service", "rm", id).out == f"{id}\n"
    assert swarm.run("service", "ls", "-q").out == ""


def test_nodes_are_drained_promoted_and_removed(swarm: Swarm) -> None:
    assert swarm.run("node", "drain", "host-w1").code == 0
    assert swarm.run("node", "promote", "w1").code == 0
    assert swarm.run("node", "demote", "w1").code == 0
    assert swarm.run("node", "rm", "--force", "host-w1").out == "w1\n"
    assert swarm.run("node", "ls", "-q").out == "m1\n"


def test_lost_replies_do_not_make_a_change_happen_twice(swarm: Swarm) -> None:
    swarm.replies_lost = 1
    id = create(swarm).out.strip()
    assert swarm.run("service", "ls", "-q").out == f"{id}\n"
    swarm.replies_lost = 1
    assert swarm.run("service", "update", "web", "--replicas", "3", "--version", "1").code == 0
    assert json.loads(swarm.run("service", "inspect", "web", "-o", "json").out)["spec_version"] == 2
    swarm.replies_lost = 1
    assert swarm.run("service", "rm", "web").out == f"{id}\n"


def test_services_of_every_mode(swarm: Swarm) -> None:
    swarm.world.raise_feature_level(ORCHESTRATION)
    assert create(swarm, "all", "--mode", "global").code == 0
    assert create(swarm, "jobs", "--mode", "replicated-job", "--replicas", "20", "--max-concurrent", "5").code == 0
    assert create(swarm, "each", "--mode", "global-job", "--follow-nodes").code == 0
    assert swarm.run("service", "scale", "jobs=30").code == 0
    listed = json.loads(swarm.run("service", "ls", "-o", "json").out)
    assert [(one["spec"]["name"], one["desired"]) for one in listed] == [("all", 2), ("each", 2), ("jobs", 30)]
    assert "0/30 completed" in swarm.run("service", "inspect", "jobs").out


def test_an_update_its_rollback_and_the_way_back(swarm: Swarm) -> None:
    swarm.world.raise_feature_level(ORCHESTRATION)
    create(swarm, "web", "--update-failure-action", "rollback", "--update-order", "start-first")
    assert swarm.run("service", "update", "web", "--image", "redis:7", "--update-max-failure-ratio", "0.5").code == 0
    swarm.replies_lost = 1
    assert swarm.run("service", "rollback", "web").code == 0
    service = json.loads(swarm.run("service", "inspect", "web", "-o", "json").out)
    assert service["spec"]["task"]["container"]["image"] == "redis"
    assert service["spec"]["update"] | {"max_failure_ratio": 0.0} == service["spec"]["update"]
    assert (service["spec_version"], service["update_status"]["state"]) == (3, "ROLLBACK_STARTED")
    assert swarm.run("service", "update", "web", "--rollback").code == 0
    assert "redis:7" in swarm.run("service", "inspect", "web").out


def test_why_and_rebalance_of_a_service(swarm: Swarm) -> None:
    swarm.world.raise_feature_level(ORCHESTRATION)
    id = create(swarm, "web", "--replicas", "2").out.strip()
    swarm.world.add_tasks([task_of("t" * 25, id, state=TaskState.PENDING)])
    assert "host-w1  ready   not yet back in session" in swarm.run("service", "why", "web").out
    assert "is PENDING and has no node" in swarm.run("task", "why", "web.1").out
    assert "not as its spec says yet" in swarm.run("service", "rebalance", "web", "--plan").err
    create(swarm, "idle", "--replicas", "0")
    assert swarm.run("service", "rebalance", "idle", "--plan").code == 0
    result = swarm.run("service", "rebalance", "idle")
    assert (result.code, result.err) == (0, "service idle is spread already: no moves\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("node inspect nobody", 3, 'node "nobody" not found'),
        ("node drain nobody", 3, "not found"),
        ("node rm host-w1", 4, "is not down and can't be removed"),
        ("node rm host-m1 --force", 4, "must be demoted first"),
        ("node demote host-m1", 4, "last manager"),
        ("service create --name web --image redis", 4, "exists already"),
        ("service create --name WEB --image redis", 4, "exists already"),
        ("service create --name a.b --image redis", 2, "not a legal service name"),
        ("service create --name api --image UPPER", 2, "invalid image"),
        ("service create --name api --image redis --replicas -1", 2, "negative"),
        ("service create --name api --image redis --env NOVALUE", 2, "NAME=value"),
        ("service create --name api --image redis --stop-signal SIGNOPE", 2, "unknown signal"),
        ("service create --name api --image redis --memory-limit 1m", 2, "too few"),
        ("service create --name api --image redis --restart-max-attempts -1", 2, "negative"),
        ("service update web --version 7 --replicas 2", 4, "out of sequence"),
        ("service update web --name other", 1, "cannot be renamed"),
        ("service update nobody --replicas 2", 3, "not found"),
        ("service rm nobody", 3, "not found"),
        ("service rollback web", 4, "does not have a previous spec"),
        ("service rollback web --version 9", 4, "out of sequence"),
        ("service rebalance web --max-moves -1", 2, "negative"),
        ("service scale web=-1", 2, '"web=-1"'),
        ("service why nobody", 3, "not found"),
        ("task why web.9", 3, "not found"),
        ("service create --name api --image redis --update-max-failure-ratio 2", 2, "ratio"),
        ("service create --name api --image redis --mode replicated-job --max-concurrent -1", 2, "negative"),
        ("service inspect wbe", 3, 'service "wbe" not found'),
        ("task inspect web.9", 3, "not found"),
        ("cluster inspect other", 3, "not found"),
    ],
)
def test_bad_input(swarm: Swarm, arguments: str, code: int, message: str) -> None:
    create(swarm)
    before = swarm.world.store.state.digest
    result = swarm.run(*arguments.split())
    assert result.code == code, result.err
    first, *rest = result.err.splitlines()
    assert first.startswith("Error: ")
    assert message in first
    assert len(rest) <= 1
    assert all(line.startswith("Hint: ") for line in rest)
    assert "Traceback" not in result.err
    assert swarm.world.store.state.digest == before


def test_the_key_of_the_authority_is_in_no_output(swarm: Swarm) -> None:
    for format in ("json", "yaml", "wide"):
        out = swarm.run("cluster", "inspect", "-o", format).out
        assert "PRIVATE" not in out
        assert "UFJJVkFURQ" not in out
        assert "SWMTKN-1-w" in out
