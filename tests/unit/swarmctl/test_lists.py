"""What lists and inspections print, exactly."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec.structs import replace

from swarmd.model import (
    ContainerStatus,
    Membership,
    NodeState,
    ResourceLimits,
    ResourceRequirements,
    Role,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from swarmd.wire.control import ServiceView
from swarmd.wire.disk import DiskCondition, DiskReport
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon, id_of, node_view, service_view, task_for


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    first = node_view("a", "node-1", member=1, leader=True)
    second = node_view("b", "node-2", name="blue", labels={"disk": "ssd"})
    daemon.nodes = [first, second]
    web = service_view("s", "web", replicas=2, running=1, command=("sleep",), args=("1000", "a,b"), env=("A=1", "B=2"))
    daemon.services = [web]
    pending = TaskStatus(state=TaskState.PENDING, at=NOW - 5, message="scheduling", err="no suitable node")
    failed = TaskStatus(
        state=TaskState.FAILED, at=NOW - 3600, err="exit 3", container=ContainerStatus(container_id="x", exit_code=3)
    )
    daemon.tasks = [
        task_for(web, "t1", 1, node=first),
        task_for(web, "t0", 1, node=second, ago=7200, status=failed, desired_state=TaskState.SHUTDOWN),
        task_for(web, "t2", 2, status=pending),
    ]
    return daemon


def test_node_ls(daemon: FakeDaemon) -> None:
    daemon.nodes.append(node_view("c", "node-3", desired_role=Role.MANAGER, membership=Membership.PENDING))
    result = daemon.run("node", "ls")
    assert result.code == 0
    assert result.err == ""
    assert result.out == (
        "ID                         Name    Membership  Status  Availability  Manager Status\n"
        "--                         ----    ----------  ------  ------------  --------------\n"
        "a000000000000000000000000  node-1  ACCEPTED    READY   ACTIVE        REACHABLE *\n"
        "b000000000000000000000000  blue    ACCEPTED    READY   ACTIVE\n"
        "c000000000000000000000000  node-3  PENDING     READY   ACTIVE        UNKNOWN\n"
    )


def test_a_node_without_its_engine_is_not_shown_as_ready(daemon: FakeDaemon) -> None:
    view = daemon.nodes[1]
    description = replace(view.node.description, engine_error="the engine does not answer")
    away = replace(view.node, description=description)
    daemon.nodes[1] = replace(view, node=away)
    assert "  blue    ACCEPTED    NO ENGINE  ACTIVE\n" in daemon.run("node", "ls").out
    shown = daemon.run("node", "inspect", "blue").out
    assert any(line.split(":", 1)[1:] == [" the engine does not answer"] for line in shown.splitlines())
    down = replace(away, status=replace(away.status, state=NodeState.DOWN))
    daemon.nodes[1] = replace(view, node=down)
    assert "  blue    ACCEPTED    DOWN    ACTIVE\n" in daemon.run("node", "ls").out


def test_service_ls(daemon: FakeDaemon) -> None:
    assert daemon.run("service", "ls").out == (
        "ID                         Name  Image  Replicas\n"
        "--                         ----  -----  --------\n"
        "s000000000000000000000000  web   redis  1/2\n"
    )
    assert daemon.run("svc", "ls").out == daemon.run("service", "list").out


def test_task_ls_hides_what_should_no_longer_run(daemon: FakeDaemon) -> None:
    assert daemon.run("task", "ls").out == (
        "ID                         Service  Desired State  Last State             Node\n"
        "--                         -------  -------------  ----------             ----\n"
        "t100000000000000000000000  web.1    RUNNING        RUNNING 2 minutes ago  node-1\n"
        "t200000000000000000000000  web.2    RUNNING        PENDING 5 seconds ago\n"
    )
    assert "FAILED 1 hour ago" in daemon.run("task", "ls", "-a").out


def test_wide_task_ls_says_why(daemon: FakeDaemon) -> None:
    assert daemon.run("task", "ls", "-o", "wide").out.splitlines()[3].endswith("redis  no suitable node")


def test_task_ls_of_one_service_on_one_node(daemon: FakeDaemon) -> None:
    assert daemon.run("task", "ls", "-aq", "--service", "web", "--node", "blue").out == f"{id_of('t0')}\n"


def test_no_resolve_prints_ids(daemon: FakeDaemon) -> None:
    line = daemon.run("task", "ls", "-n").out.splitlines()[2]
    assert line.split() == [id_of("t1"), f"{id_of('s')}.1", "RUNNING", "RUNNING", "2", "minutes", "ago", id_of("a")]
    assert daemon.asked("node.list") == []


def test_service_inspect(daemon: FakeDaemon) -> None:
    assert daemon.run("service", "inspect", "web").out == (
        "ID                : s000000000000000000000000\n"
        "Name              : web\n"
        "Replicas          : 1/2\n"
        "Template\n"
        " Container\n"
        "  Image           : redis\n"
        '  Command         : "sleep"\n'
        "  Args            : [1000, a,b]\n"
        "  Env             : [A=1, B=2]\n"
        "\n"
        "Task ID                      Service    Slot    Image    Desired State    Last State               Node\n"
        "-------                      -------    ----    -----    -------------    ----------               ----\n"
        "t100000000000000000000000    web        1       redis    RUNNING          RUNNING 2 minutes ago    node-1\n"
        "t200000000000000000000000    web        2       redis    RUNNING          PENDING 5 seconds ago\n"
    )


def test_service_inspect_all_shows_the_newest_of_a_slot_first(daemon: FakeDaemon) -> None:
    lines = daemon.run("service", "inspect", "web", "-a").out.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == [id_of("t1"), id_of("t0"), id_of("t2")]


def test_service_inspect_shows_labels_and_resources(daemon: FakeDaemon) -> None:
    spec = daemon.services[0].service.spec
    resources = ResourceRequirements(
        limits=ResourceLimits(nano_cpus=500_000_000, memory_bytes=512 << 20),
        reservations=ResourceLimits(memory_bytes=64 << 20),
    )
    spec = replace(spec, labels={"b": "2", "a": "1"}, task=replace(spec.task, resources=resources))
    daemon.services = [ServiceView(service=replace(daemon.services[0].service, spec=spec))]
    daemon.tasks = []
    assert daemon.run("service", "inspect", "web").out.splitlines()[2:] == [
        "Labels",
        "  a                     : 1",
        "  b                     : 2",
        "Replicas                : 0/0",
        "Template",
        " Container",
        "  Image                 : redis",
        '  Command               : "sleep"',
        "  Args                  : [1000, a,b]",
        "  Env                   : [A=1, B=2]",
        "  Resources",
        "   Reservations:",
        "    Memory              : 64 MiB",
        "   Limits:",
        "    CPU                 : 0.5",
        "    Memory              : 512 MiB",
    ]


@pytest.mark.parametrize(
    ("update", "lines"),
    [
        (UpdateConfig(), []),
        (UpdateConfig(parallelism=2, delay_s=10), ["Update", "  Parallelism        : 2", "  Delay              : 10s"]),
        (UpdateConfig(parallelism=0), ["Update", "  Parallelism        : all at once"]),
    ],
)
def test_service_inspect_shows_how_it_is_updated(daemon: FakeDaemon, update: UpdateConfig, lines: list[str]) -> None:
    view = daemon.services[0]
    daemon.services[0] = replace(view, service=replace(view.service, spec=replace(view.service.spec, update=update)))
    shown = daemon.run("service", "inspect", "web").out.splitlines()
    assert shown[3 : 3 + len(lines)] == lines
    assert ("Update" in shown) == bool(lines)


def test_node_inspect(daemon: FakeDaemon) -> None:
    assert daemon.run("node", "inspect", "node-1").out == (
        "ID                        : a000000000000000000000000\n"
        "Hostname                  : node-1\n"
        "Status:\n"
        "  State                   : READY\n"
        "  Availability            : ACTIVE\n"
        "  Address                 : 10.0.0.1\n"
        "Manager status:\n"
        "  Address                 : 10.0.0.1:4242\n"
        "  Raft status             : REACHABLE\n"
        "  Leader                  : yes\n"
        "Platform:\n"
        "  Operating System        : linux\n"
        "  Architecture            : x86_64\n"
        "Resources:\n"
        "  CPUs                    : 2\n"
        "  Memory                  : 4 GiB\n"
        "Engine Version            : process\n"
        "\n"
        "Task ID                      Service    Slot    Image    Desired State    Last State               Node\n"
        "-------                      -------    ----    -----    -------------    ----------               ----\n"
        "t100000000000000000000000    web        1       redis    RUNNING          RUNNING 2 minutes ago    node-1\n"
    )
    worker = daemon.run("node", "inspect", "blue").out
    assert "Node Labels" in worker
    assert "disk=ssd" in worker
    assert "Manager" not in worker
    assert "Task ID" not in worker
    assert "Task ID" in daemon.run("node", "inspect", "blue", "--all").out


def test_task_inspect(daemon: FakeDaemon) -> None:
    assert daemon.run("task", "inspect", id_of("t0")).out == (
        "ID                     : t000000000000000000000000\n"
        "Slot                   : 1\n"
        "Service                : web\n"
        "Status\n"
        "  Desired State        : SHUTDOWN\n"
        "  Last State           : FAILED\n"
        "  Timestamp            : 2027-01-15T07:00:00Z\n"
        "  Error                : exit 3\n"
        "  ContainerID          : x\n"
        "  ExitCode             : 3\n"
        "Node                   : blue\n"
        "Spec\n"
        "  Image                : redis\n"
        '  Command              : "sleep"\n'
        "  Args                 : [1000, a,b]\n"
        "  Env                  : [A=1, B=2]\n"
        "\n"
        "===> Task Parents\n"
        "Task ID                      Service    Slot    Image    Desired State    Last State               Node\n"
        "-------                      -------    ----    -----    -------------    ----------               ----\n"
        "t100000000000000000000000    web        1       redis    RUNNING          RUNNING 2 minutes ago    node-1\n"
        "t000000000000000000000000    web        1       redis    SHUTDOWN         FAILED 1 hour ago        blue\n"
    )


def test_cluster(daemon: FakeDaemon) -> None:
    assert daemon.run("cluster", "ls").out == (
        "ID                         Name\n"
        "--                         ----\n"
        "ccccccccccccccccccccccccc  default\n"
    )  # fmt: skip
    expected = (
        "ID          : ccccccccccccccccccccccccc\n"
        "Name        : default\n"
        "Orchestration settings:\n"
        "  Task history entries: 5\n"
        "Dispatcher settings:\n"
        "  Dispatcher heartbeat period: 5s\n"
        "Certificate Authority settings:\n"
        "  Certificate Validity Duration: 2160h0m0s\n"
        "  Join Tokens:\n"
        "    Worker: SWMTKN-w\n"
        "    Manager: SWMTKN-m\n"
    )
    assert daemon.run("cluster", "inspect", "default").out == expected
    assert daemon.run("cluster", "inspect").out == expected


def test_status(daemon: FakeDaemon) -> None:
    assert daemon.run("status").out == (
        "Node           : nnnnnnnnnnnnnnnnnnnnnnnnn  manager\n"
        "Swarm          : ccccccccccccccccccccccccc\n"
        "Leader         : none known\n"
        "Raft           : term 0, commit 0, applied 41\n"
        "Session        : connected\n"
        "Version        : 0.1.0\n"
    )
    assert json.loads(daemon.run("status", "-o", "json").out)["applied_index"] == 41


def test_empty_lists_keep_their_headers() -> None:
    daemon = FakeDaemon()
    for noun in ("node", "service", "task"):
        result = daemon.run(noun, "ls")
        assert result.code == 0
        assert len(result.out.splitlines()) == 2
        assert daemon.run(noun, "ls", "-q").out == ""
        assert daemon.run(noun, "ls", "-o", "json").out == "[]\n"


@pytest.mark.parametrize("noun", ["node", "service", "task", "cluster"])
def test_json_is_a_list_for_ls_and_an_object_for_inspect(daemon: FakeDaemon, noun: str) -> None:
    listed = json.loads(daemon.run(noun, "ls", "-o", "json").out)
    assert isinstance(listed, list)
    inspected = json.loads(daemon.run(noun, "inspect", listed[0]["id"], "-o", "json").out)
    assert inspected == listed[0]
    assert daemon.run(noun, "ls", "-q").out.splitlines() == [item["id"] for item in listed]


def test_json_of_a_node_has_its_part_in_raft_and_no_certificates(daemon: FakeDaemon) -> None:
    first, second = json.loads(daemon.run("node", "ls", "-o", "json").out)
    assert first["manager"]["is_leader"] is True
    assert first["manager"]["reachability"] == "REACHABLE"
    assert second["manager"] is None
    assert first["status"]["state"] == NodeState.READY.name
    assert not {"csr", "certificate"} & set(first["certificate"])


def test_json_of_the_cluster_has_tokens_and_no_key(daemon: FakeDaemon) -> None:
    document = json.loads(daemon.run("cluster", "inspect", "-o", "json").out)
    assert document["root_ca"]["join_tokens"] == {"worker": "SWMTKN-w", "manager": "SWMTKN-m"}
    assert "key" not in document["root_ca"]


def test_json_of_a_service_says_how_it_stands(daemon: FakeDaemon) -> None:
    document = json.loads(daemon.run("service", "inspect", "web", "-o", "json").out)
    assert (document["running"], document["desired"], document["spec_version"]) == (1, 2, 3)
    assert document["spec"]["task"]["container"]["stop_grace_period_s"] == 10.0


def test_names(daemon: FakeDaemon) -> None:
    assert daemon.run("node", "ls", "-o", "name").out == "node-1\nblue\n"
    assert daemon.run("service", "ls", "-o", "name").out == "web\n"
    assert daemon.run("task", "ls", "-o", "name").out.splitlines()[0] == f"web.1.{id_of('t1')}"
    assert daemon.run("cluster", "inspect", "-o", "name").out == "default\n"


def test_yaml(daemon: FakeDaemon) -> None:
    lines = daemon.run("service", "ls", "-o", "yaml").out.splitlines()
    assert lines[0] == f"- id: {id_of('s')}"
    assert "        kind: replicated" in lines or "      kind: replicated" in lines


def test_options_may_stand_before_the_noun_the_verb_or_after(daemon: FakeDaemon) -> None:
    outputs = {
        daemon.run("-o", "name", "service", "ls").out,
        daemon.run("service", "-o", "name", "ls").out,
        daemon.run("service", "ls", "-o", "name").out,
        daemon.run("-o", "json", "service", "ls", "-o", "name").out,
    }
    assert outputs == {"web\n"}


def test_socket_from_option_variable_or_default(daemon: FakeDaemon) -> None:
    daemon.run("node", "ls", variables={"SWARM_SOCKET": "/from/variable"})
    assert str(daemon.path) == "/from/variable"
    daemon.run("node", "ls", "-s", "/from/option", variables={"SWARM_SOCKET": "/from/variable"})
    assert str(daemon.path) == "/from/option"
    daemon.run("--socket", "/before", "node", "ls")
    assert str(daemon.path) == "/before"
    daemon.run("node", "ls")
    assert str(daemon.path) == "/var/run/swarmd.sock"


def test_stale_reads_are_labelled(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "ls", "--stale")
    label = f"Note: possibly stale, as of index 41 on node {'n' * 25}"
    assert result.err == f"{label}, which has heard no leader since it started\n"
    for is_leader, age_s, says in (
        (False, 125.4, "in touch with a leader 2m5s ago"),
        (True, 0.25, "in touch with a majority of the managers 0.2s ago"),
    ):
        daemon.status = msgspec.structs.replace(daemon.status, is_leader=is_leader, leader_contact_s=age_s)
        assert daemon.run("service", "inspect", "web", "--stale").err == f"{label}, {says}\n"
    assert [headers.stale for name, _, headers in daemon.calls if name == "service.list"] == [True] * 3


def test_a_node_whose_managers_disk_is_in_trouble_says_so(daemon: FakeDaemon) -> None:
    first = daemon.nodes[0]
    assert first.manager is not None
    report = DiskReport(
        condition=DiskCondition.FULL,
        since_at=NOW - 60,
        free_bytes=1 << 20,
        total_bytes=96 << 20,
        reason="raft.db: database or disk is full",
    )
    daemon.nodes[0] = replace(first, manager=replace(first.manager, disk=report))
    assert "REACHABLE (disk full) *\n" in daemon.run("node", "ls").out
    (line,) = [line for line in daemon.run("node", "inspect", first.node.id).out.splitlines() if " Disk " in line]
    assert line.endswith("1 MiB of 96 MiB free: raft.db: database or disk is full")
    assert "disk full since 2" in line
    document = json.loads(daemon.run("node", "inspect", first.node.id, "-o", "json").out)
    assert document["manager"]["disk"]["condition"] == "FULL"
    assert document["manager"]["disk"]["since_at"].endswith("Z")
