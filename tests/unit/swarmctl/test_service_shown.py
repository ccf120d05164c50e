"""What `service ls`, `inspect`, `ps` and `why`, `task why` and the node commands show of orchestration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    DependencyCondition,
    Driver,
    Endpoint,
    EndpointMode,
    EndpointSpec,
    FailureAction,
    FilterVerdict,
    GenericResource,
    Global,
    GlobalJob,
    JobStatus,
    Mode,
    Placement,
    PlacementFailure,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    Plugin,
    PortConfig,
    PublishMode,
    Rebalancing,
    ReplicatedJob,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceDependency,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
    UpdateState,
    UpdateStatus,
    VirtualIP,
)
from swarmd.wire.control import ServiceView
from swarmd.wire.orchestration import NodeVerdict, ServiceWhy, TaskWhy
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon, id_of, node_view, service_view, task_for


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.nodes = [node_view("a", "node-1", member=1, leader=True), node_view("b", "node-2")]
    daemon.services = [service_view("s", "web", replicas=2, running=1)]
    return daemon


def of_mode(view: ServiceView, mode: Mode, **fields: Any) -> ServiceView:
    return replace(view, service=replace(view.service, spec=replace(view.service.spec, mode=mode)), **fields)


def port(target: int, published: int = 0, **more: Any) -> PortConfig:
    return PortConfig(target_port=target, published_port=published, **more)


# -- service ls --------------------------------------------------------------------------------------------------------
def test_ls_tells_modes_and_ports_once_there_are_some(daemon: FakeDaemon) -> None:
    job = of_mode(service_view("t", "batch"), ReplicatedJob(total_completions=20), completed=5, desired=20, running=3)
    everywhere = of_mode(service_view("u", "agent"), Global(), running=2, desired=3)
    endpoint = Endpoint(ports=(port(80, 80), port(81, 81), port(53, publish_mode=PublishMode.HOST)))
    daemon.services += [job, everywhere]
    web = daemon.services[0]
    daemon.services[0] = replace(web, service=replace(web.service, endpoint=endpoint))
    assert daemon.run("service", "ls").out == (
        "ID                         Name   Image  Replicas        Mode            Ports\n"
        "--                         ----   -----  --------        ----            -----\n"
        "s000000000000000000000000  web    redis  1/2             replicated      *:80-81->80-81/tcp, host->53/tcp\n"
        "t000000000000000000000000  batch  redis  5/20 completed  replicated-job\n"
        "u000000000000000000000000  agent  redis  2/3             global\n"
    )
    listed = json.loads(daemon.run("service", "ls", "-o", "json").out)
    assert [(one["desired"], one["completed"], one["spec"]["mode"]["kind"]) for one in listed] == [
        (2, 0, "replicated"),
        (20, 5, "replicated_job"),
        (3, 0, "global"),
    ]


# -- service inspect ---------------------------------------------------------------------------------------------------
def lines_of(daemon: FakeDaemon, service: Service, **view: Any) -> list[str]:
    """What inspect says, each line with single blanks around the colon."""
    daemon.services[0] = replace(daemon.services[0], service=service, **view)
    result = daemon.run("service", "inspect", "web", "--pretty")
    assert result.code == 0, result.err
    return [" : ".join(part.rstrip() for part in line.split(": ", 1)) for line in result.out.splitlines()]


def test_inspect_shows_every_setting(daemon: FakeDaemon) -> None:
    service = daemon.services[0].service
    task = replace(
        service.spec.task,
        restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_s=2.0, max_attempts=3, window_s=60.0),
        placement=Placement(
            constraints=("node.role==worker", "node.labels.disk==ssd"),
            preferences=(PlacementPreference(spread="node.labels.zone"),),
            platforms=(Platform(os="linux", architecture="amd64"), Platform(os="linux")),
            max_replicas=2,
            strategy=PlacementStrategy.BINPACK,
        ),
        resources=ResourceRequirements(reservations=ResourceLimits(generic=(GenericResource(kind="gpu", amount=2),))),
        log_driver=Driver(name="syslog", options={"tag": "x"}),
    )
    spec = replace(
        service.spec,
        task=task,
        update=UpdateConfig(
            parallelism=2,
            delay_s=10.0,
            monitor_s=20.0,
            failure_action=FailureAction.ROLLBACK,
            max_failure_ratio=0.25,
            order=UpdateOrder.START_FIRST,
            progress_timeout_s=0.0,
        ),
        rollback=UpdateConfig(parallelism=0),
        endpoint=EndpointSpec(mode=EndpointMode.DNSRR, ports=(port(80, name="http"),)),
        depends_on=(
            ServiceDependency(service="db", condition=DependencyCondition.HEALTHY),
            ServiceDependency(service="cache"),
        ),
    )
    endpoint = Endpoint(
        ports=(port(80, 30000, name="http"),), virtual_ips=(VirtualIP(network_id="n1", addr="10.0.0.2/24"),)
    )
    assert lines_of(daemon, replace(service, spec=spec, endpoint=endpoint))[3:] == [
        "Update",
        "  Parallelism : 2",
        "  Delay : 10s",
        "  Monitor : 20s",
        "  On failure : rollback",
        "  Max failure ratio : 0.25",
        "  Order : start-first",
        "  Progress timeout : none",
        "Rollback",
        "  Parallelism : all at once",
        "Restart",
        "  Condition : on-failure",
        "  Delay : 2s",
        "  Max attempts : 3",
        "  Window : 1m0s",
        "Depends on : [db:healthy, cache]",
        "Template",
        " Container",
        "  Image : redis",
        "  Resources",
        "   Reservations:",
        "    Generic Resources : gpu=2",
        "  Placement",
        "   Constraints : [node.role==worker, node.labels.disk==ssd]",
        "   Preferences : [spread=node.labels.zone]",
        "   Platforms : [linux/amd64, linux]",
        "   Max per node : 2",
        "   Strategy : binpack",
        "Endpoint",
        "  Mode : dnsrr",
        "  Port : *:30000->80/tcp (http)",
        "  Address : 10.0.0.2/24 in n1",
        "LogDriver : syslog",
        "  tag : x",
    ]


def test_inspect_shows_how_the_update_stands(daemon: FakeDaemon) -> None:
    status = UpdateStatus(
        state=UpdateState.PAUSED, started_at=NOW - 120, message="update paused due to ...", total=6, failed=("3",)
    )
    service = replace(daemon.services[0].service, update_status=status)
    assert lines_of(daemon, service, outdated=3)[3:8] == [
        "Update Status",
        "  State : PAUSED",
        "  Started : 2 minutes ago",
        "  Progress : 2 of 6 updated, 1 failed",
        "  Message : update paused due to ...",
    ]
    done = replace(status, state=UpdateState.COMPLETED, completed_at=NOW - 60, message="update completed", failed=())
    assert lines_of(daemon, replace(service, update_status=done), outdated=0)[3:8] == [
        "Update Status",
        "  State : COMPLETED",
        "  Started : 2 minutes ago",
        "  Completed : 1 minute ago",
        "  Message : update completed",
    ]
    moving = replace(service, update_status=None, rebalancing=Rebalancing(started_at=NOW - 5, task_ids=("a", "b")))
    assert "Rebalancing : 2 tasks, since 5 seconds ago" in lines_of(daemon, moving)


@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        (
            ReplicatedJob(max_concurrent=5, total_completions=20),
            ["Mode : replicated-job", "Replicas : 4/20 completed", "  Running : 3", "  Failed for good : 1",
             "  Max concurrent : 5", "  Iteration : 2", "  Begun : 10 seconds ago"],
        ),
        (
            GlobalJob(follow_nodes=True),
            ["Mode : global-job", "Replicas : 4/20 completed", "  Running : 3", "  Failed for good : 1",
             "  Follows nodes : yes", "  Iteration : 2", "  Begun : 10 seconds ago"],
        ),
    ],
)  # fmt: skip
def test_inspect_shows_how_far_a_job_is(daemon: FakeDaemon, mode: Mode, lines: list[str]) -> None:
    service = daemon.services[0].service
    status = JobStatus(job_iteration=2, last_execution=NOW - 10)
    service = replace(service, spec=replace(service.spec, mode=mode), job_status=status)
    shown = lines_of(daemon, service, running=3, desired=20, completed=4, failed=1)
    assert shown[2 : 2 + len(lines)] == lines


# -- service ps --------------------------------------------------------------------------------------------------------
def test_ps_shows_the_present_task_of_a_slot_and_under_it_those_before(daemon: FakeDaemon) -> None:
    view, (one, two) = daemon.services[0], daemon.nodes
    err = "task: non-zero exit (137): " + "x" * 60
    ended = {
        "desired_state": TaskState.SHUTDOWN,
        "status": TaskStatus(state=TaskState.FAILED, at=NOW - 60, err=err),
    }
    on_its_node = Endpoint(ports=(port(80, 8080, publish_mode=PublishMode.HOST),))
    daemon.tasks = [
        task_for(view, "t2", 2, node=two, ago=5.0, endpoint=on_its_node),
        task_for(view, "t0", 1, node=one, ago=600.0, **ended),
        task_for(view, "t1", 1, node=one),
    ]
    header, _, *lines = daemon.run("service", "ps", "web").out.splitlines()
    assert header.split() == ["ID", "Name", "Image", "Node", "Desired", "State", "Current", "State", "Error", "Ports"]
    rows = [line.split("  ") for line in lines]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        [id_of("t1"), "web.1", "redis", "node-1", "RUNNING", "RUNNING 2 minutes ago"],
        [id_of("t0"), "\\_ web.1", "redis", "node-1", "SHUTDOWN", "FAILED 1 minute ago", err[:57] + "..."],
        [id_of("t2"), "web.2", "redis", "node-2", "RUNNING", "RUNNING 5 seconds ago", "host:8080->80/tcp"],
    ]
    assert err in daemon.run("service", "ps", "web", "--no-trunc").out
    assert id_of("t0") not in daemon.run("service", "ps", "web", "--current").out
    assert daemon.run("service", "ps", "web", "-q").out == f"{id_of('t2')}\n{id_of('t0')}\n{id_of('t1')}\n"
    assert len(json.loads(daemon.run("service", "ps", "web", "-o", "json").out)) == 3


def test_ps_names_nodes_where_there_are_no_slots_and_iterations_of_jobs(daemon: FakeDaemon) -> None:
    view = of_mode(daemon.services[0], GlobalJob())
    daemon.services[0] = view
    daemon.tasks = [
        task_for(view, letter, 0, node=daemon.nodes[number], job_iteration=iteration, desired_state=TaskState.COMPLETE)
        for letter, number, iteration in (("j2", 1, 1), ("j0", 0, 0), ("j1", 0, 1))
    ]
    header, _, *lines = daemon.run("service", "ps", "web").out.splitlines()
    assert header.endswith("Iteration")
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        (id_of("j1"), "1"),
        (id_of("j0"), "0"),
        (id_of("j2"), "1"),
    ]
    assert [" ".join(line.split()[1:3]) for line in lines] == ["web.node-1 redis", "\\_ web.node-1", "web.node-2 redis"]


def test_what_a_job_completed_is_listed_with_all_alone(daemon: FakeDaemon) -> None:
    view = of_mode(daemon.services[0], ReplicatedJob(total_completions=2))
    daemon.services[0] = view
    done = TaskStatus(state=TaskState.COMPLETE, at=NOW - 5)
    daemon.tasks = [
        task_for(view, "j1", 1, node=daemon.nodes[0], desired_state=TaskState.COMPLETE, status=done),
        task_for(view, "j2", 2, node=daemon.nodes[0], desired_state=TaskState.COMPLETE),
    ]
    assert daemon.run("task", "ls", "-q").out == f"{id_of('j2')}\n"
    assert daemon.run("task", "ls", "-aq").out == f"{id_of('j1')}\n{id_of('j2')}\n"
    assert id_of("j1") not in daemon.run("service", "inspect", "web").out
    assert "COMPLETE 5 seconds ago" in daemon.run("service", "ps", "web").out


def test_ps_of_several_goes_on_after_an_unknown_one(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "ps", "nope", "web")
    assert result.code == 3
    assert "Desired State" in result.out


# -- why ---------------------------------------------------------------------------------------------------------------
def waiting(daemon: FakeDaemon, **why: Any) -> TaskWhy:
    task = task_for(daemon.services[0], "t1", 1, ago=240.0, status=TaskStatus(state=TaskState.PENDING, at=NOW - 240))
    daemon.tasks = [task]
    return TaskWhy(task=task, reason="is PENDING and has no node: no suitable node", **why)


def test_task_why_names_the_filter_of_each_node_and_the_fix(daemon: FakeDaemon) -> None:
    nodes = (
        NodeVerdict(
            node_id=id_of("a"), node_name="node-1", filter="constraint", detail="node.labels.disk==ssd (has hdd)"
        ),
        NodeVerdict(node_id=id_of("b"), filter="resources", detail="memory: needs 2048 MiB, 1024 MiB of 8192 MiB free"),
    )
    why = waiting(
        daemon, nodes=nodes, nodes_left_out=3, unplaced=PlacementFailure(nodes=5, fix="label node-1 disk=ssd")
    )
    daemon.handlers["task.why"] = lambda request: why
    assert daemon.run("task", "why", "web.1").out == (
        f"web.1 ({id_of('t1')}) is PENDING and has no node: no suitable node (4 minutes ago)\n"
        "Node    Filter      Detail\n"
        "----    ------      ------\n"
        "node-1  constraint  node.labels.disk==ssd (has hdd)\n"
        "node-2  resources   memory: needs 2048 MiB, 1024 MiB of 8192 MiB free\n"
        "and 3 more nodes\n"
        "fix: label node-1 disk=ssd\n"
    )
    assert [request.id for request in daemon.asked("task.why")] == [id_of("t1")]
    document = json.loads(daemon.run("task", "why", "web.1", "-o", "json").out)
    assert document["nodes"][0]["filter"] == "constraint"
    assert document["unplaced"]["fix"] == "label node-1 disk=ssd"
    assert daemon.run("task", "why", "web.1", "-q").out == f"{id_of('t1')}\n"


def test_task_why_says_when_a_node_would_take_it(daemon: FakeDaemon) -> None:
    why = waiting(daemon, nodes=(NodeVerdict(node_id=id_of("a"), node_name="node-1"),))
    daemon.handlers["task.why"] = lambda request: why
    out = daemon.run("task", "why", "web.1").out
    assert "node-1  fits now\n" in out
    assert "a node would take it now" in out


def test_service_why_tells_of_each_task_and_of_the_scheduler_s_summary(daemon: FakeDaemon) -> None:
    first = waiting(
        daemon, nodes=(NodeVerdict(node_id=id_of("a"), node_name="node-1", filter="ready", detail="drained"),)
    )
    failure = PlacementFailure(
        nodes=9, verdicts=(FilterVerdict(filter="ready", nodes=9, detail="9 down", examples=(id_of("b"),)),)
    )
    second = TaskWhy(task=replace(first.task, slot=2), reason="is PENDING and has no node", unplaced=failure)
    why = ServiceWhy(service=daemon.services[0], reason="1 of 2 running", tasks=(first, second), tasks_left_out=7)
    daemon.handlers["service.why"] = lambda request: why
    out = daemon.run("service", "why", "web").out
    assert out.startswith("web: 1 of 2 running\n\nweb.1 (")
    assert "node-1  ready   drained\n" in out
    assert "ready   9      9 down  node-2\n" in out
    assert out.endswith("and 7 more tasks: swarmctl task why TASK\n")
    assert json.loads(daemon.run("service", "why", "web", "-o", "json").out)["tasks_left_out"] == 7


def test_service_why_of_a_service_that_is_well(daemon: FakeDaemon) -> None:
    daemon.handlers["service.why"] = lambda request: ServiceWhy(service=daemon.services[0], reason="2 of 2 running")
    assert daemon.run("service", "why", "web").out == "web: 2 of 2 running\nno task is amiss\n"


def test_text_from_elsewhere_does_not_drive_the_terminal(daemon: FakeDaemon) -> None:
    why = waiting(daemon, nodes=(NodeVerdict(node_id="x", node_name="\x1b[2J", filter="ready", detail="a\nb"),))
    why = replace(why, reason="is\x1b PENDING\n", unplaced=PlacementFailure(fix="\x07"))
    daemon.handlers["task.why"] = lambda request: why
    out = daemon.run("task", "why", "web.1").out
    assert out.replace("\n", "").isprintable()


# -- nodes -------------------------------------------------------------------------------------------------------------
def test_node_inspect_shows_what_is_taken_and_left(daemon: FakeDaemon) -> None:
    view = daemon.nodes[1]
    gpus = GenericResource(kind="gpu", names=("g1", "g2"))
    description = replace(
        view.node.description,
        resources=Resources(nano_cpus=4 * 10**9, memory_bytes=8 << 30, generic=(gpus,)),
        plugins=(
            Plugin(type="Volume", name="local"),
            Plugin(type="Log", name="syslog"),
            Plugin(type="Log", name="json"),
        ),
    )
    daemon.nodes[1] = replace(
        view,
        node=replace(view.node, description=description),
        tasks=3,
        reserved=Resources(nano_cpus=15 * 10**8, memory_bytes=1 << 30, generic=(replace(gpus, names=("g1",)),)),
        allocatable=Resources(nano_cpus=25 * 10**8, memory_bytes=7 << 30, generic=(replace(gpus, names=("g2",)),)),
    )
    lines = [" ".join(line.split()) for line in daemon.run("node", "inspect", "node-2").out.splitlines()]
    first = lines.index("Resources:")
    assert lines[first : first + 16] == [
        "Resources:",
        "CPUs : 4",
        "Memory : 8 GiB",
        "Generic Resources : gpu=2 [g1, g2]",
        "Tasks : 3",
        "Reserved:",
        "CPUs : 1.5",
        "Memory : 1 GiB",
        "Generic Resources : gpu=1 [g1]",
        "Allocatable:",
        "CPUs : 2.5",
        "Memory : 7 GiB",
        "Generic Resources : gpu=1 [g2]",
        "Plugins:",
        "Log : json, syslog",
        "Volume : local",
    ]
    document = json.loads(daemon.run("node", "inspect", "node-2", "-o", "json").out)
    assert (document["tasks"], document["allocatable"]["nano_cpus"]) == (3, 25 * 10**8)
    assert "2.5/4" in daemon.run("node", "ls", "-o", "wide").out


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (("--label-add", "zone=b"), {"zone": "b", "disk": "ssd"}),
        (("--label-add", "new=1", "--label-rm", "disk"), {"zone": "a", "new": "1"}),
        (("--label", "only=this"), {"only": "this"}),
        (("--label", ""), {}),
    ],
)
def test_node_update_of_labels(daemon: FakeDaemon, options: tuple[str, ...], labels: dict[str, str]) -> None:
    before = {"zone": "a", "disk": "ssd"}
    daemon.nodes = [node_view("b", "node-2", labels=before)]
    daemon.handlers["node.update"] = lambda request: replace(
        daemon.nodes[0], node=replace(daemon.nodes[0].node, spec=request.spec)
    )
    result = daemon.run("node", "update", "node-2", *options)
    assert (result.code, result.out) == (0, f"{id_of('b')}\n"), result.err
    (request,) = daemon.asked("node.update")
    assert request.spec == replace(daemon.nodes[0].node.spec, labels=labels)
    assert request.version == 7


def test_node_update_that_changes_nothing_says_so(daemon: FakeDaemon) -> None:
    result = daemon.run("node", "update", "node-1", "node-2", "--label-rm", "nothing", "--availability", "active")
    assert result.code == 0
    assert result.err == "node node-1 is so already: no changes\nnode node-2 is so already: no changes\n"
    assert daemon.run("node", "update", "node-1").code == 2
    assert "active, pause or drain" in daemon.run("node", "update", "node-1", "--availability", "away").err
