"""What somebody gets wrong: one line that says it, at most one that helps, the right exit status, nothing changed."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmd.errors import EXIT_BAD_CONFIG, EXIT_CODE, EXIT_NO_MANAGER, ErrorKind
from tests.e2e.machines import Swarm, wait_until
from tests.e2e.test_crashes import node_state

pytestmark = pytest.mark.slow

INVALID: Final = EXIT_CODE[ErrorKind.INVALID]
NOT_FOUND: Final = EXIT_CODE[ErrorKind.NOT_FOUND]
EXISTS: Final = EXIT_CODE[ErrorKind.ALREADY_EXISTS]
CONFLICT: Final = EXIT_CODE[ErrorKind.CONFLICT]
PRECONDITION: Final = EXIT_CODE[ErrorKind.FAILED_PRECONDITION]
UNAVAILABLE: Final = EXIT_CODE[ErrorKind.UNAVAILABLE]
UNIMPLEMENTED: Final = EXIT_CODE[ErrorKind.UNIMPLEMENTED]
REFUSED: Final = 1
"""swarmd's status for what the machine or the swarm does not allow."""

NO_LEADER_S_MAX: Final = 20.0
"""A manager waits 10 s for a leader before it says that there is none; what is more is three programs that start."""
AT_ONCE: Final = 4
"""Processes side by side."""
NOBODY: Final = "z" * 25
"""An id that nothing has."""
CREATE: Final = ("service", "create", "--name", "new", "--image", "sleep", "--command", "sleep")


@pytest.fixture(scope="module", autouse=True)
def service(swarm: Swarm) -> Iterator[None]:
    """A service that the bad inputs fail to change."""
    machine = swarm.machines[0]
    machine.ctl(*("service", "create", "--name", "web", "--image", "sleep", "--replicas", "2", "--wait"),
                *("--command", "sleep", "--args", "100000"))  # fmt: skip
    yield
    for one in swarm.machines:
        log = one.log.read_text(errors="replace")
        assert "Traceback" not in log, f"{one.name} logged a traceback:\n{log[log.index('Traceback') - 500 :][:3000]}"


@pytest.fixture(scope="module", autouse=True)
def joiner(swarm: Swarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A daemon that tries to join where nobody listens, from the beginning, because it tries for 10 s."""
    state = tmp_path_factory.mktemp("joiner") / "state"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and not listening: refuses
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        process = subprocess.Popen(
            (
                *(sys.executable, "-m", "swarmd", "-d", str(state), "--listen-control-api", f"{state}.sock"),
                *("--executor", "process", "--join-addr", address, "--join-token", swarm.token("worker")),
            ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        yield process, address, state
        with process:  # closes the pipes, also when the test that reads them was not among the chosen
            process.kill()


def picture(swarm: Swarm) -> Any:
    """All that bad input could change: specs, roles, members, tokens, which tasks there are. Not when who was heard."""
    nodes = [
        (n["id"], n["spec"], n["role"], n["status"]["state"], (n["manager"] or {}).get("is_voter"))
        for n in read(swarm, "node", "ls")
    ]
    tasks = [(t["id"], t["desired_state"], t["spec"]) for t in read(swarm, "task", "ls", "-a")]
    payloads = read(swarm, "secret", "ls"), read(swarm, "config", "ls")
    return nodes, read(swarm, "service", "ls"), tasks, read(swarm, "cluster", "inspect"), payloads


def read(swarm: Swarm, *arguments: str) -> Any:
    """What `swarmctl ... -o json` prints, run in this process because it is asked for so often."""
    out, err = io.StringIO(), io.StringIO()
    line = ("-s", str(swarm.machines[0].socket), *arguments, "-o", "json")
    assert run(line, Environment(out=out, err=err)) == 0, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture
def unchanged(swarm: Swarm) -> Iterator[None]:
    """Nothing may have changed when the test is over."""
    before = picture(swarm)
    yield
    assert picture(swarm) == before


def told(done: subprocess.CompletedProcess[str], status: int, says: str, *, logs: bool = False) -> None:
    """One `Error:` line that says so, at most one `Hint:`, nothing else (but a daemon's log), this exit status."""
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    lines = done.stderr.splitlines()
    if logs:
        lines = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert lines, "nothing was said"
    assert lines[0].startswith("Error: "), done.stderr
    assert all(line.startswith("Hint: ") for line in lines[1:]), done.stderr
    assert len(lines) <= 2, done.stderr
    assert re.search(says, lines[0]), f"{lines[0]!r} does not say {says!r}"
    assert done.stdout == ""
    assert done.returncode == status, done.stderr


# -- swarmctl ---------------------------------------------------------------------------------------------------------
WRONG: Final[dict[str, tuple[Any, ...]]] = {
    "unknown node": (NOT_FOUND, 'node "nope" not found', "node", "inspect", "nope"),
    "unknown node's id": (NOT_FOUND, f'node "{NOBODY}" not found', "node", "drain", NOBODY),
    "unknown service": (NOT_FOUND, 'service "nope" not found', "service", "inspect", "nope"),
    "unknown service to update": (NOT_FOUND, "not found", "service", "update", "wen", "--replicas", "3"),
    "unknown service to remove": (NOT_FOUND, "not found", "service", "rm", "nope"),
    "unknown task": (NOT_FOUND, 'task "nope" not found', "task", "inspect", "nope"),
    "unknown slot": (NOT_FOUND, 'task "web.9" not found', "task", "inspect", "web.9"),
    "unknown cluster": (NOT_FOUND, 'cluster "other" not found', "cluster", "inspect", "other"),
    "empty name": (INVALID, "missing", "node", "inspect", ""),
    "taken name": (EXISTS, '"web" exists already', "service", "create", "--name", "web", "--image", "x"),
    "taken name in another case": (EXISTS, "exists already", "service", "create", "--name", "WEB", "--image", "x"),
    "missing name": (INVALID, "--name is missing", "service", "create", "--image", "x"),
    "missing image": (INVALID, "--image is missing", "service", "create", "--name", "new"),
    "bad name": (INVALID, '"a b"', "service", "create", "--name", "a b", "--image", "x"),
    "name too long": (INVALID, "at most 63", "service", "create", "--name", "n" * 64, "--image", "x"),
    "bad image": (INVALID, "invalid image", "service", "create", "--name", "new", "--image", "UPPER:x:y"),
    "negative replicas": (INVALID, "negative", *CREATE, "--replicas", "-1"),
    "replicas that are no number": (INVALID, '--replicas: "two"', *CREATE, "--replicas", "two"),
    "replicas beyond all machines": (INVALID, "at most", "service", "update", "web", "--replicas", "1000001"),
    "variable without a name": (INVALID, "variable name", *CREATE, "--env", "=x"),
    "variable without a value": (INVALID, '"A B"', *CREATE, "--env", "A B"),
    "label without a key": (INVALID, "--label", *CREATE, "--label", "=x"),
    "unknown signal": (INVALID, 'signal "SIGNOPE"', *CREATE, "--stop-signal", "SIGNOPE"),
    "relative directory": (INVALID, "absolute", *CREATE, "--dir", "here"),
    "duration without sense": (INVALID, '--restart-delay: "soon"', *CREATE, "--restart-delay", "soon"),
    "update delay without sense": (INVALID, '--update-delay: "later"', *CREATE, "--update-delay", "later"),
    "negative update delay": (INVALID, "update-delay", *CREATE, "--update-delay=-1s"),
    "negative parallelism": (INVALID, "negative", *CREATE, "--update-parallelism", "-1"),
    "parallelism that is no number": (INVALID, '--update-parallelism: "all"', *CREATE, "--update-parallelism", "all"),
    "memory without sense": (INVALID, "--memory-limit", *CREATE, "--memory-limit", "lots"),
    "unknown mode": (INVALID, '--mode: "local"', *CREATE, "--mode", "local"),
    "replicas of a global service": (INVALID, "mode global", *CREATE, "--mode", "global", "--replicas", "2"),
    "concurrency of what is no job": (INVALID, "--max-concurrent", "service", "update", "web", "--max-concurrent", "2"),
    "update settings of a job": (INVALID, "[Jj]ob", *CREATE, "--mode", "replicated-job", "--update-delay", "1s"),
    "unknown failure action": (INVALID, '--update-failure-action: "panic"', *CREATE, "--update-on-failure", "panic"),
    "ratio above one": (INVALID, "ratio", *CREATE, "--update-max-failure-ratio", "1.5"),
    "rollback that rolls back": (INVALID, '"rollback" is not', *CREATE, "--rollback-failure-action", "rollback"),
    "unknown order": (INVALID, '--rollback-order: "any"', *CREATE, "--rollback-order", "any"),
    "preference that is no spread": (INVALID, '--placement-pref: "zone"', *CREATE, "--placement-pref", "zone"),
    "unknown strategy": (INVALID, '--strategy: "pack"', *CREATE, "--strategy", "pack"),
    "platform without sense": (INVALID, '--platform: "a/b/c"', *CREATE, "--platform", "a/b/c"),
    "generic resource without amount": (INVALID, '"gpu"', *CREATE, "--generic-resource", "gpu"),
    "port without sense": (INVALID, '--publish: "http"', *CREATE, "--publish", "http"),
    "ranges of ports of two lengths": (INVALID, "same length", *CREATE, "-p", "80-82:80-81"),
    "port to publish no more": (INVALID, '--publish-rm: "x"', "service", "update", "web", "--publish-rm", "x"),
    "unknown endpoint mode": (INVALID, '--endpoint-mode: "any"', *CREATE, "--endpoint-mode", "any"),
    "unknown condition of a dependency": (INVALID, '"happy"', *CREATE, "--depends-on", "web:happy"),
    "log option without a driver": (INVALID, "no log driver", *CREATE, "--log-opt", "a=b"),
    "rollback of what was never updated": (PRECONDITION, "previous spec", "service", "rollback", "web"),
    "rollback with another change": (INVALID, "no other change", "service", "update", "web", "--rollback", "--force"),
    "rollback of an unknown service": (NOT_FOUND, "not found", "service", "rollback", "nope"),
    "scale without a number": (INVALID, '"web"', "service", "scale", "web"),
    "scale to less than nothing": (INVALID, '"web=-1"', "service", "scale", "web=-1"),
    "rebalance of an unknown service": (NOT_FOUND, "not found", "service", "rebalance", "nope"),
    "rebalance by less than nothing": (INVALID, "negative", "service", "rebalance", "web", "--max-moves", "-1"),
    "reasons of an unknown service": (NOT_FOUND, "not found", "service", "why", "nope"),
    "reasons of an unknown task": (NOT_FOUND, "not found", "task", "why", "web.9"),
    "node update of nothing": (INVALID, "nothing to change", "node", "update", "node-2"),
    "unknown availability": (INVALID, '--availability: "away"', "node", "update", "node-2", "--availability", "away"),
    "text that is no UTF-8": (INVALID, "UTF-8", *CREATE, "--args", os.fsdecode(b"\xff")),
    "stale version": (CONFLICT, "at version 1, not 99", "service", "update", "web", "-l", "a=b", "--version=99"),
    "version that is no number": (INVALID, "--version", "service", "update", "web", "--force", "--version", "x"),
    "update of nothing": (INVALID, "nothing to change", "service", "update", "web"),
    "rename": (UNIMPLEMENTED, "renamed", "service", "update", "web", "--name", "other"),
    "unknown option": (INVALID, "No such option", "service", "ls", "--frob"),
    "unknown noun": (INVALID, 'no such command "servic"', "servic", "ls"),
    "unknown verb": (INVALID, 'no such command "frob"', "service", "frob"),
    "planned command": (UNIMPLEMENTED, '"swarmctl stack" is not built yet', "stack", "ls"),
    "unknown secret": (NOT_FOUND, 'secret "nope" not found', "secret", "inspect", "nope"),
    "unknown config to remove": (NOT_FOUND, 'config "nope" not found', "config", "rm", "nope"),
    "secret of nothing": (INVALID, "standard input is empty", "secret", "create", "new", "-"),
    "secret from no file": (INVALID, "cannot read", "secret", "create", "new", "/nonexistent"),
    "secret from what never ends": (INVALID, "is larger than", "secret", "create", "new", "/dev/zero"),
    "bad name of a secret": (INVALID, "not a legal secret name", "secret", "create", "a/b", __file__),
    "secret of a driver": (UNIMPLEMENTED, "not built yet", "secret", "create", "new", "--driver", "vault"),
    "too many words": (INVALID, "unexpected extra argument", "service", "inspect", "web", "web"),
    "unknown format": (INVALID, 'no format "xml"', "service", "ls", "-o", "xml"),
    "removal of a manager": (PRECONDITION, "demoted first", "node", "rm", "node-2"),
    "removal of a manager by force": (PRECONDITION, "demoted first", "node", "rm", "--force", "node-2"),
    "removal of a node that is up": (PRECONDITION, "not down", "node", "rm", "node-4"),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(swarm: Swarm) -> dict[str, subprocess.CompletedProcess[str]]:
    """What swarmctl answered to each wrong input. Side by side, since they change nothing and starts take long."""
    before = picture(swarm)
    socket_flags = ("-s", str(swarm.machines[1].socket))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = dict(
            zip(WRONG, pool.map(lambda wrong: swarmctl(*socket_flags, *wrong[2:]), WRONG.values()), strict=True)
        )
    assert picture(swarm) == before, "some wrong input changed something"
    return done


@pytest.mark.parametrize("name", WRONG)
def test_swarmctl_answers(answers: dict[str, subprocess.CompletedProcess[str]], name: str) -> None:
    status, says, *_ = WRONG[name]
    told(answers[name], status, says)


@pytest.mark.usefixtures("unchanged")
def test_an_ambiguous_prefix_is_answered_with_the_candidates(swarm: Swarm, shared_letter: str) -> None:
    done = swarm.machines[1].ctl("service", "inspect", shared_letter, check=False)
    told(done, INVALID, "is ambiguous")
    assert re.search(r"Hint: one of \w{25} \([\w-]+\), ", done.stderr)


@pytest.fixture(scope="module")
def shared_letter(swarm: Swarm) -> str:
    """The first letter of two services' ids, which are random: at the latest the 37th repeats one."""
    letters: set[str] = set()
    for number in range(37):
        command = ("service", "create", "--name", f"crowd-{number}", "--image", "x", "--replicas", "0")
        letter = swarm.machines[0].ctl(*command).stdout[0]
        if letter in letters:
            return letter
        letters.add(letter)
    raise AssertionError("there are only 36 letters and digits")


@pytest.mark.usefixtures("unchanged")
def test_a_manager_that_is_promoted_again_stays_what_it_is(swarm: Swarm) -> None:
    done = swarm.machines[1].ctl("node", "promote", "node-2", check=False)
    assert (done.returncode, done.stderr) == (0, "node node-2 is already a manager\n")


@pytest.mark.usefixtures("unchanged")
def test_of_several_the_good_ones_are_done_and_the_bad_ones_told(swarm: Swarm) -> None:
    done = swarm.machines[1].ctl("node", "activate", "node-2", "nope", check=False)
    assert done.returncode == NOT_FOUND
    assert 'Error: node "nope" not found\n' in done.stderr


@pytest.mark.usefixtures("unchanged")
def test_a_workers_socket_does_not_administer_the_swarm(swarm: Swarm) -> None:
    worker = swarm.machines[3]
    told(worker.ctl("node", "ls", check=False), PRECONDITION, "this node is not a manager")
    told(worker.ctl("service", "rm", "web", check=False), PRECONDITION, "this node is not a manager")


def test_a_socket_that_is_not_there(swarm: Swarm, tmp_path: Path) -> None:
    told(swarmctl("-s", str(tmp_path / "none.sock"), "node", "ls"), UNAVAILABLE, "no socket")


def test_a_socket_that_is_none(swarm: Swarm, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    told(swarmctl("-s", str(path), "node", "ls"), UNAVAILABLE, "file")


def test_a_socket_that_nobody_serves_any_more(tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    told(swarmctl("-s", str(path), "service", "rm", "web"), UNAVAILABLE, "nobody listens")


def swarmctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it against no particular machine."""
    return _run("swarmctl", *arguments)


def swarmd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that should not come up."""
    return _run("swarmd", *arguments)


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        capture_output=True, text=True, timeout=40, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


# -- swarmd -----------------------------------------------------------------------------------------------------------
WRONG_FLAGS: Final[dict[str, tuple[str, ...]]] = {
    "level": ("--log-level: unknown level 'loud'", "--log-level", "loud"),
    "log format": ("--log-format: unknown format 'xml'", "--log-format", "xml"),
    "hostname": ("--hostname: 'a b' is not a host name", "--hostname", "a b"),
    "executor": ("--executor: unknown executor 'podman'", "--executor", "podman"),
    "engine by its bare path": ("--engine-addr: '/run/docker.sock' is not", "--engine-addr", "/run/docker.sock"),
    "engine with a relative path": ("--engine-addr: 'unix://docker.sock'", "--engine-addr", "unix://docker.sock"),
    "engine by an unknown way": ("--engine-addr: 'ssh://host'", "--engine-addr", "ssh://host"),
    "engine without a port": ("--engine-addr: 'host' is not an address", "--engine-addr", "tcp://host"),
    "no engine": ("--engine-addr: '' is not", "--engine-addr", ""),
    "heartbeat": ("--heartbeat-tick: must be", "--heartbeat-tick", "0"),
    "election": ("--election-tick: 2 is too small", "--election-tick", "2"),
    "heartbeat that is no number": ("--heartbeat-tick", "--heartbeat-tick", "x"),
    "address to listen on": ("--listen-remote-api: 'nonsense:port'", "--listen-remote-api", "nonsense:port"),
    "port beyond all ports": ("--listen-remote-api", "--listen-remote-api", "127.0.0.1:99999"),
    "address to announce": ("--advertise-remote-api: 0.0.0.0:1", "--advertise-remote-api", "0.0.0.0:1"),
    "address to join": ("--join-addr: 'x:y:z'", "--join-addr", "x:y:z"),
    "token without an address": ("--join-token: a token needs a manager", "--join-token", "SWMTKN-1-a-b"),
    "token that is none": ("SWMTKN-1-", "--join-addr", "127.0.0.1:9", "--join-token", "secret"),
    "token cut short": ("token", "--join-addr", "127.0.0.1:9", "--join-token", "SWMTKN-1-abc"),
    "unknown flag": ("No such option", "--frob"),
    "word that is no flag": ("No such command", "start"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What swarmd said to each wrong flag. No such daemon may have begun to be a node."""

    def start(flags: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        root = tmp_path_factory.mktemp("wrong", numbered=True)
        executor = () if "--executor" in flags else ("--executor", "process")
        done = swarmd("-d", str(root / "state"), "--listen-control-api", str(root / "sock"), *executor, *flags)
        assert not (root / "state" / "certificates").exists()
        return done

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(WRONG_FLAGS, pool.map(lambda wrong: start(wrong[1:]), WRONG_FLAGS.values()), strict=True))


@pytest.mark.parametrize("name", WRONG_FLAGS)
def test_swarmd_answers(refusals: dict[str, subprocess.CompletedProcess[str]], name: str) -> None:
    told(refusals[name], EXIT_BAD_CONFIG, WRONG_FLAGS[name][0])


@pytest.fixture
def fresh(tmp_path: Path) -> tuple[str, ...]:
    """Flags of a daemon that could run."""
    return (
        *("-d", str(tmp_path / "state"), "--listen-control-api", str(tmp_path / "control.sock")),
        *("--executor", "process", "--listen-remote-api", "127.0.0.1:0"),
    )


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("pattern", "says"), [(r"\w{25}$", "wrong, or it was replaced"), (r"(?<=-1-)\w{4}", "of another swarm")]
)
def test_a_token_of_another_swarm_or_time_lets_nobody_in(
    swarm: Swarm, fresh: tuple[str, ...], tmp_path: Path, pattern: str, says: str
) -> None:
    token = re.sub(pattern, lambda match: "1" * len(match[0]), swarm.token("worker"))
    done = swarmd(*fresh, "--join-addr", f"127.0.0.1:{swarm.machines[0].port()}", "--join-token", token)
    told(done, REFUSED, says, logs=True)
    assert not (tmp_path / "state" / "certificates").exists()


def test_a_manager_that_cannot_be_reached_is_given_up(joiner: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, address, state = joiner
    out, err = process.communicate(timeout=40)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    told(done, EXIT_NO_MANAGER, re.escape(address), logs=True)
    assert not (state / "certificates").exists()


@pytest.mark.usefixtures("unchanged")
def test_a_busy_port_is_refused(swarm: Swarm, fresh: tuple[str, ...]) -> None:
    address = f"127.0.0.1:{swarm.machines[0].port()}"
    told(swarmd(*fresh[:-1], address), REFUSED, f"{address} is in use", logs=True)


@pytest.mark.usefixtures("unchanged")
def test_a_busy_control_socket_is_refused_and_stays_its_owners(swarm: Swarm, fresh: tuple[str, ...]) -> None:
    path = str(swarm.machines[0].socket)
    told(swarmd(*fresh, "--listen-control-api", path), REFUSED, f"another daemon serves {path}", logs=True)


def test_a_file_in_the_place_of_the_control_socket_is_kept(fresh: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("mine")
    told(swarmd(*fresh), REFUSED, "is no socket", logs=True)
    assert (tmp_path / "control.sock").read_text() == "mine"


@pytest.mark.usefixtures("unchanged")
def test_a_second_daemon_on_a_state_directory_is_refused(swarm: Swarm, fresh: tuple[str, ...]) -> None:
    told(swarmd(*fresh, "-d", str(swarm.machines[3].state_dir)), REFUSED, r"another swarmd \(pid \d+\)", logs=True)


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "/dev/null/state"])
def test_a_state_directory_that_cannot_be(fresh: tuple[str, ...], place: str) -> None:
    told(swarmd(*fresh, "-d", place), REFUSED, re.escape(place.removesuffix("/state")))


# -- too few managers -------------------------------------------------------------------------------------------------
def test_a_demotion_that_costs_the_quorum_and_a_swarm_without_one(swarm: Swarm) -> None:
    """With one of three managers stopped no other may be demoted; with two stopped nothing can be written or read."""
    one, two, three = swarm.machines[:3]
    before = picture(swarm)
    three.stop()
    wait_until(lambda: node_state(swarm, three.node_id) in ("DISCONNECTED", "DOWN"), 30, "nobody noticed")
    swarm.leader()
    told(one.ctl("node", "demote", "node-2", check=False), PRECONDITION, "loss of quorum")
    two.stop()
    wait_until(lambda: not (one.status() or {}).get("leader_node_id"), 30, "the last manager still has a leader")
    asked = [
        _start(one.socket, *arguments)
        for arguments in ((*CREATE, "--args", "9"), ("service", "update", "web", "--replicas", "3"), ("node", "ls"))
    ]
    began = time.monotonic()
    for process in asked:
        out, err = process.communicate(timeout=40)
        done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        told(done, UNAVAILABLE, "no leader: 3 voting managers, 2 of them must reach each other")
    assert time.monotonic() - began < NO_LEADER_S_MAX
    for machine in (two, three):
        machine.start()
    for machine in (two, three):
        machine.wait_ready()
    wait_until(lambda: picture(swarm) == before, 30, "the swarm is not what it was")


def _start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "swarmctl", "-s", str(path), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
