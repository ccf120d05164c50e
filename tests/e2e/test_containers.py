"""SwarmKit's own README, both generations of it, typed as it stands: every task a real container that answers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.e2e.machines import wait_until
from tests.e2e.terminals import Terminals
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_root]

UP_S_MAX: Final = 60.0
UPDATED_S_MAX: Final = 120.0
TOKEN: Final = re.compile(r"^ +(Worker|Manager): (SWMTKN-1-\S+)$", re.MULTILINE)


@pytest.fixture
def terminals() -> Iterator[Terminals]:
    """A machine with a Docker engine and the image redis, and nothing in /tmp."""
    with Sandbox() as sandbox:
        sandbox.start_engine()
        terminals = Terminals(sandbox)
        yield terminals
        terminals.close()


class Swarm:
    """What the terminals show, read as a person would."""

    def __init__(self, terminals: Terminals) -> None:
        self.terminals = terminals

    def wait(self, line: str, *patterns: str, within_s: float = UP_S_MAX) -> str:
        """Type `line` until each pattern is in what it prints."""
        seen = ""

        def is_shown() -> bool:
            nonlocal seen
            seen = self.terminals.type(line, check=False)
            return all(re.search(pattern, seen, re.MULTILINE) for pattern in patterns)

        wait_until(is_shown, within_s, f"{line!r} does not show {patterns}", lambda: seen + self.terminals.logs())
        return seen

    def redis(self) -> list[dict[str, Any]]:
        """The running containers of the service, as the engine tells."""
        ids = self.terminals.type("docker ps -q --no-trunc --filter label=com.docker.swarm.service.name=redis").split()
        return list(json.loads(self.terminals.type(f"docker inspect {' '.join(ids)}"))) if ids else []

    def ping(self, container: dict[str, Any]) -> str:
        """What this container's Redis answers to PING, over the network."""
        address = container["NetworkSettings"]["IPAddress"]
        talk = f"exec 3<>/dev/tcp/{address}/6379; printf 'PING\\r\\n' >&3; read -t 10 line <&3; echo ${{line%?}}"
        return self.terminals.type(f"bash -c {shlex.quote(talk)}").strip()

    def expect_redis(self, count: int, *, image: str, nodes: int) -> list[str]:
        """`count` containers of `image` on at least `nodes` nodes, each answering; the ids of their nodes."""
        containers = self.redis()
        assert len(containers) == count
        assert {container["Config"]["Image"] for container in containers} == {image}
        assert [self.ping(container) for container in containers] == ["+PONG"] * count
        placed = [container["Config"]["Labels"]["com.docker.swarm.node.id"] for container in containers]
        assert len(set(placed)) >= nodes
        listed = json.loads(self.terminals.type("swarmctl task ls -o json"))
        running = {task["id"]: task["node_id"] for task in listed if task["status"]["state"] == "RUNNING"}
        labels = [container["Config"]["Labels"] for container in containers]
        assert running == {label["com.docker.swarm.task.id"]: label["com.docker.swarm.node.id"] for label in labels}
        return placed

    def end(self) -> None:
        """The service goes, and its containers with it; then the daemons stop."""
        self.terminals.type("swarmctl service rm redis")
        wait_until(lambda: not self.terminals.type("docker ps -aq"), UP_S_MAX, "containers are left")
        assert self.terminals.stop_daemons() == {0}


def test_the_older_readme_without_tokens(terminals: Terminals) -> None:
    swarm = Swarm(terminals)
    terminals.daemon("swarmd -d /tmp/node-1 --listen-control-api /tmp/node-1/control.sock --hostname node-1")
    terminals.export("SWARM_SOCKET=/tmp/node-1/control.sock")
    swarm.wait("swarmctl node ls", r"node-1 .*READY")
    terminals.daemon("swarmd -d /tmp/node-2 --hostname node-2 --join-addr 127.0.0.1:4242")
    terminals.daemon("swarmd -d /tmp/node-3 --hostname node-3 --join-addr 127.0.0.1:4242")
    nodes = swarm.wait("swarmctl node ls", r"node-2 .*READY", r"node-3 .*READY")
    assert re.search(r"^\w{25}  node-1  ACCEPTED    READY   ACTIVE        REACHABLE \*$", nodes, re.MULTILINE), nodes
    assert re.search(r"^\w{25}  node-2  ACCEPTED    READY   ACTIVE *$", nodes, re.MULTILINE), nodes

    id = terminals.type("swarmctl service create --name redis --image redis")
    assert re.fullmatch(r"[0-9a-z]{25}\n", id)
    swarm.wait("swarmctl service ls", rf"^{id.strip()}  redis  redis  1/1$")
    swarm.wait("swarmctl service inspect redis", r"^Replicas +: 1/1$", r"redis +1 +redis +RUNNING +RUNNING .* node-\d$")
    swarm.expect_redis(1, image="redis", nodes=1)

    assert terminals.type("swarmctl service update redis --instances 4") == id
    swarm.wait("swarmctl service inspect redis", r"^Replicas +: 4/4$")
    swarm.expect_redis(4, image="redis", nodes=2)
    swarm.end()


def test_the_current_readme_with_tokens(terminals: Terminals) -> None:
    swarm = Swarm(terminals)
    terminals.daemon("swarmd -d /tmp/node-1 --listen-control-api /tmp/node-1/swarm.sock --hostname node-1")
    terminals.export("SWARM_SOCKET=/tmp/node-1/swarm.sock")
    tokens = dict(TOKEN.findall(swarm.wait("swarmctl cluster inspect default", r"Worker: SWMTKN", r"Manager: SWMTKN")))
    for number in (2, 3):
        terminals.daemon(
            f"swarmd -d /tmp/node-{number} --hostname node-{number} --join-addr 127.0.0.1:4242"
            f" --join-token {tokens['Worker']}"
        )
    terminals.daemon(
        f"swarmd -d /tmp/node-4 --hostname node-4 --join-addr 127.0.0.1:4242 --join-token {tokens['Manager']}"
        " --listen-control-api /tmp/node-4/swarm.sock --listen-remote-api 127.0.0.1:4245"
    )
    swarm.wait(
        "swarmctl node ls",
        r"node-1 .*READY .*REACHABLE \*$",
        r"node-2 .*READY   ACTIVE *$",
        r"node-3 .*READY   ACTIVE *$",
        r"node-4 .*READY .*REACHABLE$",
    )

    terminals.type("swarmctl service create --name redis --image redis:3.0.5")
    swarm.wait("swarmctl service ls", r"  redis  redis:3\.0\.5  1/1$")
    terminals.type("swarmctl service update redis --replicas 6")
    swarm.wait("swarmctl service inspect redis", r"^Replicas +: 6/6$")
    swarm.expect_redis(6, image="redis:3.0.5", nodes=4)

    terminals.type("swarmctl service update redis --image redis:3.0.6")
    swarm.wait("swarmctl service inspect redis", *_updated("redis:3.0.6"), within_s=UPDATED_S_MAX)
    swarm.expect_redis(6, image="redis:3.0.6", nodes=2)
    terminals.type("swarmctl service update redis --image redis:3.0.7 --update-parallelism 2 --update-delay 10s")
    swarm.wait("swarmctl service inspect redis", *_updated("redis:3.0.7"), within_s=UPDATED_S_MAX)
    swarm.expect_redis(6, image="redis:3.0.7", nodes=2)

    terminals.type("swarmctl node drain node-1")
    # A drained leader hands the lead over; the other manager has it within moments.
    swarm.wait("swarmctl node ls", r"node-1 .*READY   DRAIN         REACHABLE$", r"node-4 .*READY .*REACHABLE \*$")
    swarm.wait("swarmctl service inspect redis", *_updated("redis:3.0.7"), r"(?s)\A(?!.* node-1$)")
    node_1 = json.loads(terminals.type("swarmctl node inspect node-1 -o json"))["id"]
    assert node_1 not in swarm.expect_redis(6, image="redis:3.0.7", nodes=3)
    swarm.end()


def _updated(image: str) -> tuple[str, ...]:
    rows = "".join(rf"(?s:.*)^\w{{25}} +redis +{slot} +{image} +RUNNING +RUNNING " for slot in range(1, 7))
    return (r"^Replicas +: 6/6$", rows)
