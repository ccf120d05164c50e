"""Commands that change something: what they send, what they print, how they wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, Conflict, FailedPrecondition, Unavailable
from swarmd.model import (
    Availability,
    NodeState,
    Replicated,
    RestartCondition,
    Role,
    ServiceSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from swarmd.wire.control import ManagerStatus, NodeView, Removed, ServiceView, UpdateNode, UpdateService
from tests.unit.swarmctl.fake_daemon import FakeDaemon, id_of, node_view, service_view, task_for


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.nodes = [node_view("a", "node-1", member=1, leader=True), node_view("b", "node-2")]
    daemon.services = [service_view("s", "web", replicas=2, running=2, env=("A=1",))]

    def update_node(request: UpdateNode) -> NodeView:
        (old,) = [view for view in daemon.nodes if view.node.id == request.id]
        view = NodeView(node=replace(old.node, spec=request.spec), manager=old.manager)
        daemon.nodes[daemon.nodes.index(old)] = view
        return view

    daemon.handlers = {
        "service.remove": lambda request: Removed(id=request.id),
        "node.update": update_node,
        "node.remove": lambda request: Removed(id=request.id),
    }
    return daemon


# -- service create --------------------------------------------------------------------------------------------------
def test_create_prints_the_id(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "create", "--name", "redis", "--image", "redis")
    assert (result.code, result.out, result.err) == (0, f"{id_of('n')}\n", "")
    spec = daemon.asked("service.create")[0].spec
    assert spec.name == "redis"
    assert spec.mode == Replicated(replicas=1)
    key = next(headers.key for name, _, headers in daemon.calls if name == "service.create")
    assert len(key) == 16


EVERYTHING = """
    --name w --image /srv --instances 4 --command /bin/sh --command -c --args --flag --env A=1,2 -e B= --label k=v
    --dir /d --user u:g --hostname h --stop-signal int --stop-grace-period 1m --restart-condition failure
    --restart-delay 500ms --restart-max-attempts 3 --restart-window 1h --memory-limit 64m --memory-reservation 32m
    --cpu-limit 1/2 --cpu-reservation 0.25 --update-parallelism 2 --update-delay 10s --no-wait
"""


def test_create_with_everything(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "create", "--args", "echo a,b; sleep 1", *EVERYTHING.split())
    assert result.code == 0, result.err
    spec: ServiceSpec = daemon.asked("service.create")[0].spec
    container, task = spec.task.container, spec.task
    assert (spec.mode.replicas, spec.labels) == (4, {"k": "v"})
    assert container.command == ("/bin/sh", "-c")
    assert container.args == ("echo a,b; sleep 1", "--flag")
    assert container.env == ("A=1,2", "B=")
    assert (container.image, container.dir, container.user, container.hostname) == ("/srv", "/d", "u:g", "h")
    assert (container.stop_signal, container.stop_grace_period_s) == ("SIGINT", 60.0)
    assert task.restart.condition is RestartCondition.ON_FAILURE
    assert (task.restart.delay_s, task.restart.max_attempts, task.restart.window_s) == (0.5, 3, 3600.0)
    assert spec.update == UpdateConfig(parallelism=2, delay_s=10.0)
    assert (task.resources.limits.memory_bytes, task.resources.limits.nano_cpus) == (64 << 20, 500_000_000)
    assert (task.resources.reservations.memory_bytes, task.resources.reservations.nano_cpus) == (32 << 20, 250_000_000)


def test_create_in_another_format(daemon: FakeDaemon) -> None:
    arguments = ("service", "create", "--name", "redis", "--image", "redis", "-o")
    assert json.loads(daemon.run(*arguments, "json").out)["spec"]["name"] == "redis"
    assert daemon.run(*arguments, "name").out == "redis\n"


# -- service update --------------------------------------------------------------------------------------------------
def test_update_changes_what_is_given_and_nothing_else(daemon: FakeDaemon) -> None:
    before = daemon.services[0].service.spec
    result = daemon.run("service", "update", "web", "--instances", "4")
    assert (result.code, result.out) == (0, f"{id_of('s')}\n")
    (request,) = daemon.asked("service.update")
    assert request.spec == replace(before, mode=Replicated(replicas=4))
    assert request.spec_version == 3


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (("--replicas", "0"), "mode"),
        (("--env", "B=2"), "task"),
        (("--label", "a=b"), "labels"),
        (("--force",), "task"),
        (("--restart-delay", "0"), "task"),
        (("--update-delay", "1m"), "update"),
        (("--update-parallelism", "0"), "update"),
    ],
)
def test_each_option_touches_its_own_part(daemon: FakeDaemon, arguments: tuple[str, ...], changed: str) -> None:
    before = daemon.services[0].service.spec
    assert daemon.run("service", "update", "web", *arguments).code == 0
    (request,) = daemon.asked("service.update")
    touched = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(request.spec, name)]
    assert touched == [changed]


def test_a_delay_alone_keeps_one_at_a_time(daemon: FakeDaemon) -> None:
    assert daemon.run("service", "update", "web", "--update-delay", "1m").code == 0
    assert daemon.asked("service.update")[0].spec.update == UpdateConfig(parallelism=1, delay_s=60.0)


def test_update_with_force_counts_up(daemon: FakeDaemon) -> None:
    daemon.run("service", "update", "web", "--force")
    assert daemon.asked("service.update")[0].spec.task.force_update == 1


def test_update_that_changes_nothing_says_so(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "update", "web", "--replicas", "2")
    assert (result.code, result.out) == (0, f"{id_of('s')}\n")
    assert "no changes" in result.err


def test_update_without_options_is_a_usage_error(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "update", "web")
    assert result.code == 2
    assert result.err.startswith("Error: nothing to change")
    assert daemon.calls == []


def test_update_is_repeated_on_what_somebody_else_made_of_it(daemon: FakeDaemon) -> None:
    def other_first(request: UpdateService) -> ServiceView:
        del daemon.handlers["service.update"]
        daemon.update(
            UpdateService(id=request.id, spec=replace(request.spec, labels={"theirs": "1"}, mode=Replicated()))
        )
        raise Conflict("update out of sequence")

    daemon.handlers["service.update"] = other_first
    assert daemon.run("service", "update", "web", "--replicas", "7").code == 0
    spec = daemon.services[0].service.spec
    assert (spec.mode.replicas, spec.labels) == (7, {"theirs": "1"})


def test_update_at_a_version_is_not_repeated(daemon: FakeDaemon) -> None:
    daemon.errors["service.update"] = [Conflict("update out of sequence", hint="read it again")]
    result = daemon.run("service", "update", "web", "--replicas", "7", "--version", "2")
    assert result.code == 4
    assert result.err == "Error: update out of sequence\nHint: read it again\n"
    assert [request.spec_version for request in daemon.asked("service.update")] == [2]


def test_update_gives_up_after_three_conflicts(daemon: FakeDaemon) -> None:
    daemon.errors["service.update"] = [Conflict("again")] * 9
    assert daemon.run("service", "update", "web", "--replicas", "7").code == 4
    assert len(daemon.asked("service.update")) == 3


# -- removal of several ----------------------------------------------------------------------------------------------
def test_rm_of_several_reports_each_and_exits_with_the_worst(daemon: FakeDaemon) -> None:
    daemon.services.append(service_view("t", "api"))
    result = daemon.run("service", "rm", "web", "nope", "api")
    assert result.out == f"{id_of('s')}\n{id_of('t')}\n"
    assert result.err.startswith('Error: service "nope" not found\n')
    assert result.code == 3


def test_node_rm_passes_force_on(daemon: FakeDaemon) -> None:
    assert daemon.run("node", "rm", "node-2").code == 0
    assert daemon.run("node", "remove", "-f", "node-2").out == f"{id_of('b')}\n"
    assert [request.force for request in daemon.asked("node.remove")] == [False, True]


# -- nodes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("drain", Availability.ACTIVE, Availability.DRAIN),
        ("pause", Availability.DRAIN, Availability.PAUSE),
        ("activate", Availability.PAUSE, Availability.ACTIVE),
    ],
)
def test_availability(daemon: FakeDaemon, verb: str, before: Availability, after: Availability) -> None:
    daemon.nodes = [node_view("b", "node-2", availability=before, labels={"a": "b"})]
    result = daemon.run("node", verb, "node-2")
    assert (result.code, result.out) == (0, f"{id_of('b')}\n")
    node = daemon.nodes[0].node
    assert node.spec.availability is after
    assert node.spec.labels == {"a": "b"}


def test_roles(daemon: FakeDaemon) -> None:
    assert daemon.run("node", "promote", "node-2").code == 0
    assert daemon.run("node", "demote", "node-1").code == 0
    assert [view.node.spec.desired_role for view in daemon.nodes] == [Role.WORKER, Role.MANAGER]
    assert [request.version for request in daemon.asked("node.update")] == [7, 7]


def test_already_so_is_said_and_no_failure(daemon: FakeDaemon) -> None:
    result = daemon.run("node", "promote", "node-1", "node-2")
    assert result.code == 0
    assert result.out == f"{id_of('a')}\n{id_of('b')}\n"
    first, *more = result.err.splitlines()
    assert first == "node node-1 is already a manager"
    assert more[0] == "managers: 1 -> 2 voters; failures tolerated: 0 -> 0"
    assert "of two managers none may fail" in more[1]
    assert len(more) == 2
    assert len(daemon.asked("node.update")) == 1


def test_refused_demotion(daemon: FakeDaemon) -> None:
    daemon.errors["node.update"] = [FailedPrecondition("attempting to demote the last manager of the swarm")]
    result = daemon.run("node", "demote", "self", "node-1")
    assert result.code == 4
    assert "Error: attempting to demote the last manager" in result.err


def test_a_forced_demotion_says_so_to_the_manager_and_a_refused_one_tells_no_cost(daemon: FakeDaemon) -> None:
    daemon.run("node", "promote", "node-2")
    daemon.errors["node.update"] = [FailedPrecondition("loss of quorum", hint="with --force")]
    assert "failures tolerated" not in daemon.run("node", "demote", "node-2").err
    assert daemon.run("node", "demote", "--force", "node-2").code == 0
    assert [request.force for request in daemon.asked("node.update")] == [False, False, True]


def test_node_edit_is_repeated_when_its_status_changed_meanwhile(daemon: FakeDaemon) -> None:
    daemon.errors["node.update"] = [Conflict("update out of sequence")]
    assert daemon.run("node", "drain", "node-2").code == 0
    assert len(daemon.asked("node.update")) == 2


# -- waiting ---------------------------------------------------------------------------------------------------------
Step = Callable[[], None]


def play(daemon: FakeDaemon, *steps: Step) -> None:
    """Let one step happen at each pause between two looks."""
    left, sleep = list(steps), daemon._sleep

    def pause(seconds: float) -> None:
        sleep(seconds)
        if left:
            left.pop(0)()

    daemon._sleep = pause  # type: ignore[method-assign]


def set_tasks(daemon: FakeDaemon, *states: TaskState, **fields: Any) -> Step:
    def step() -> None:
        view = daemon.services[-1]
        daemon.tasks = [
            task_for(view, f"x{slot}", slot, status=TaskStatus(state=state, **fields))
            for slot, state in enumerate(states, start=1)
        ]
        running = sum(state is TaskState.RUNNING for state in states)
        daemon.services[-1] = replace(view, running=running, outdated=0)

    return step


CREATE = ("service", "create", "--name", "redis", "--image", "redis", "--replicas", "2", "--wait")


def test_create_waits_until_all_run(daemon: FakeDaemon) -> None:
    play(
        daemon,
        set_tasks(daemon, TaskState.PENDING, TaskState.RUNNING, err="no suitable node"),
        set_tasks(daemon, TaskState.RUNNING, TaskState.RUNNING),
    )
    result = daemon.run(*CREATE)
    assert (result.code, result.out) == (0, f"{id_of('n')}\n")
    assert result.err.splitlines() == [
        "service redis: 0/2 running",
        "service redis: 1/2 running; redis.1 PENDING: no suitable node",
        "service redis: 2/2 running",
    ]


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_wait_looks_often_while_something_changes(daemon: FakeDaemon, quiet: tuple[str, ...]) -> None:
    def nothing() -> None: ...

    still = [nothing] * 12
    states = (TaskState.RUNNING, TaskState.PREPARING)
    play(daemon, *still, set_tasks(daemon, *states), nothing, set_tasks(daemon, TaskState.RUNNING, TaskState.RUNNING))
    assert daemon.run(*CREATE, *quiet).code == 0
    assert max(daemon.pauses[:13]) == daemon.pauses[12] == 1.0
    assert daemon.pauses[13] == daemon.pauses[0] == 0.1


def test_wait_that_is_not_over_in_time_says_what_is_missing(daemon: FakeDaemon) -> None:
    play(daemon, set_tasks(daemon, TaskState.PENDING, err="no suitable node"))
    result = daemon.run(*CREATE, "--timeout", "30s", "-q")
    assert result.code == 7
    assert result.out == f"{id_of('n')}\n"
    first, hint = result.err.splitlines()
    assert first == ("Error: service redis did not converge within 30s: 0/2 running; redis.1 PENDING: no suitable node")
    assert hint.startswith("Hint: ")
    assert daemon.clock <= 30.0


def test_wait_tells_why_the_task_before_failed(daemon: FakeDaemon) -> None:
    def step() -> None:
        set_tasks(daemon, TaskState.FAILED, err="exec /no/such/program: not found")()
        new = replace(daemon.tasks[-1], id="later", status=TaskStatus(state=TaskState.READY, message="prepared"))
        daemon.tasks.append(new)

    play(daemon, step)
    result = daemon.run(*CREATE, "--timeout", "30s", "-q")
    assert "0/2 running; redis.1 FAILED: exec /no/such/program: not found" in result.err


def test_wait_ends_when_the_restart_policy_gives_up(daemon: FakeDaemon) -> None:
    play(daemon, set_tasks(daemon, TaskState.RUNNING, TaskState.REJECTED, err="no such image"))
    result = daemon.run(*CREATE, "--restart-condition", "none")
    assert result.code == 10
    assert "redis.2 is REJECTED: no such image" in result.err


def test_a_failed_task_that_will_be_replaced_is_waited_for(daemon: FakeDaemon) -> None:
    play(
        daemon,
        set_tasks(daemon, TaskState.RUNNING, TaskState.FAILED),
        set_tasks(daemon, TaskState.RUNNING, TaskState.RUNNING),
    )
    assert daemon.run(*CREATE).code == 0


def test_wait_outlives_a_change_of_leader(daemon: FakeDaemon) -> None:
    daemon.errors["task.list"] = [Unavailable("no leader"), Unavailable("no leader")]
    play(daemon, set_tasks(daemon, TaskState.RUNNING, TaskState.RUNNING))
    result = daemon.run(*CREATE)
    assert result.code == 0
    assert "service redis: no leader" in result.err


def test_tasks_of_an_older_spec_are_not_what_was_asked_for(daemon: FakeDaemon) -> None:
    view = daemon.services[0]
    daemon.tasks = [task_for(view, f"x{slot}", slot) for slot in (1, 2)]
    play(daemon, lambda: None, set_tasks(daemon, TaskState.RUNNING, TaskState.RUNNING))
    result = daemon.run("service", "update", "web", "--image", "redis:7", "--wait")
    assert result.code == 0
    assert "0/2 running, 2 of an older spec" in result.err


def test_waiting_is_the_default_on_a_terminal_alone(daemon: FakeDaemon) -> None:
    daemon.is_terminal = True
    assert daemon.run(*CREATE[:-1], "--timeout", "1s").code == 7
    assert daemon.run(*CREATE[:-1], "--timeout", "1s", "--no-wait").code == 0
    daemon.is_terminal = False
    assert daemon.run(*CREATE[:-1], "--timeout", "1s").code == 0


def test_malformed_timeout_changes_nothing(daemon: FakeDaemon) -> None:
    result = daemon.run(*CREATE, "--timeout", "soon")
    assert result.code == 2
    assert daemon.calls == []


def test_rm_waits_for_tasks_on_nodes_that_can_be_reached(daemon: FakeDaemon) -> None:
    view, (up, _) = daemon.services[0], daemon.nodes
    down = replace(
        daemon.nodes[1], node=replace(daemon.nodes[1].node, status=replace(up.node.status, state=NodeState.DOWN))
    )
    daemon.nodes[1] = down
    stays = task_for(view, "y", 2, node=down)
    daemon.tasks = [task_for(view, "x", 1, node=up), stays]

    def stop() -> None:
        daemon.tasks = [stays]

    play(daemon, stop)
    result = daemon.run("service", "rm", "web", "--wait")
    assert result.code == 0
    assert result.err.splitlines() == ["service web: 1 task left", "service web: 0 tasks left"]


def test_drain_promote_and_demote_wait(daemon: FakeDaemon) -> None:
    view = daemon.nodes[1]
    daemon.tasks = [task_for(daemon.services[0], "x", 1, node=view)]
    play(daemon, daemon.tasks.clear)
    assert daemon.run("node", "drain", "node-2", "--wait").err.endswith("node node-2: 0 tasks left\n")

    def join(*, is_voter: bool) -> Step:
        def step() -> None:
            daemon.nodes[1] = NodeView(node=daemon.nodes[1].node, manager=ManagerStatus(member_id=2, is_voter=is_voter))

        return step

    play(daemon, join(is_voter=False), join(is_voter=True))
    assert daemon.run("node", "promote", "node-2", "--wait").err.splitlines()[2:] == [
        "node node-2: waiting for its certificate and for it to join the managers",
        "node node-2: a learner, catching up",
        "node node-2: a manager",
    ]

    def leave() -> None:
        daemon.nodes[1] = NodeView(node=daemon.nodes[1].node)

    play(daemon, leave)
    assert daemon.run("node", "demote", "node-2", "--wait").err.splitlines() == [
        "managers: 2 -> 1 voters; failures tolerated: 0 -> 0",
        "node node-2: leaving the managers",
        "node node-2: a worker",
    ]


def test_a_name_that_is_taken(daemon: FakeDaemon) -> None:
    daemon.errors["service.create"] = [AlreadyExists('a service named "web" exists already')]
    result = daemon.run("service", "create", "--name", "web", "--image", "redis")
    assert (result.code, result.out) == (4, "")
