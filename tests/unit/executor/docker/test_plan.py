"""From a task to a container, and back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.executor import TaskError
from swarmd.executor.docker.plan import Container, Owner, check, create_body, is_of, labels_of, read_container
from swarmd.model import (
    Driver,
    Endpoint,
    GenericResource,
    PortConfig,
    PortProtocol,
    PublishMode,
    ResourceLimits,
    ResourceRequirements,
)
from tests.unit.executor.docker.fake_engine import make_task

OWNER = Owner(swarm_id="swarm", node_id="node")
DOCUMENT = {
    "Id": "abc",
    "Name": "/web.1.task1",
    "State": {"Running": False, "Pid": 0, "ExitCode": 137, "OOMKilled": True, "StartedAt": "2026-01-01T00:00:00Z"},
    "Config": {"Labels": {"a": "b"}, "StopSignal": "SIGQUIT", "StopTimeout": 3},
    "HostConfig": {"Memory": 64 << 20},
}


def test_what_is_not_set_is_left_to_the_image() -> None:
    body = create_body(make_task(), OWNER)
    assert not {"Entrypoint", "Cmd", "StopSignal"} & body.keys()
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [((), ("a",), (None, ["a"])), (("c",), (), (["c"], [])), (("c", "d"), ("a",), (["c", "d"], ["a"]))],
)
def test_a_command_replaces_the_entrypoint_and_args_the_command(
    command: tuple[str, ...], args: tuple[str, ...], expected: tuple[object, object]
) -> None:
    body = create_body(make_task(command=command, args=args), OWNER)
    assert (body.get("Entrypoint"), body["Cmd"]) == expected


def test_each_field_has_its_place() -> None:
    task = make_task(env=("A=1",), dir="/d", user="1:2", hostname="h", stop_signal="SIGINT", stop_grace_period_s=3.7)
    limits = ResourceRequirements(limits=ResourceLimits(nano_cpus=5 * 10**8, memory_bytes=64 << 20))
    body = create_body(replace(task, spec=replace(task.spec, resources=limits)), OWNER)
    assert body["Env"] == ["A=1"]
    assert (body["WorkingDir"], body["User"], body["Hostname"]) == ("/d", "1:2", "h")
    assert (body["StopSignal"], body["StopTimeout"]) == ("SIGINT", 3)
    assert (body["HostConfig"]["NanoCpus"], body["HostConfig"]["Memory"]) == (5 * 10**8, 64 << 20)


def test_ports_of_the_node_alone_are_bound_and_the_swarms_are_not() -> None:
    ports = (
        PortConfig(target_port=80, published_port=8080, publish_mode=PublishMode.HOST),
        PortConfig(target_port=80, published_port=8081, publish_mode=PublishMode.HOST),
        PortConfig(target_port=53, protocol=PortProtocol.UDP, publish_mode=PublishMode.HOST),
        PortConfig(target_port=443, published_port=30000),
    )
    body = create_body(replace(make_task(), endpoint=Endpoint(ports=ports)), OWNER)
    assert body["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert body["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}],
        "53/udp": [{"HostPort": ""}],
    }
    assert "ExposedPorts" not in create_body(make_task(), OWNER)


def test_the_services_log_driver_wins_over_the_swarms() -> None:
    task = make_task()
    assert "LogConfig" not in create_body(task, OWNER)["HostConfig"]
    task = replace(task, log_driver=Driver(name="syslog"))
    assert create_body(task, OWNER)["HostConfig"]["LogConfig"] == {"Type": "syslog", "Config": {}}
    task = replace(task, spec=replace(task.spec, log_driver=Driver(name="json-file", options={"max-size": "1m"})))
    assert create_body(task, OWNER)["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "1m"},
    }


def test_a_container_learns_which_generic_resources_it_got() -> None:
    got = (GenericResource(kind="gpu", names=("UUID1",)), GenericResource(kind="apple", amount=2))
    body = create_body(replace(make_task(env=("A=1",)), assigned_generic_resources=got), OWNER)
    assert body["Env"] == ["A=1", "DOCKER_RESOURCE_GPU=UUID1", "DOCKER_RESOURCE_APPLE=2"]


def test_a_spec_cannot_forge_the_labels_that_decide_whose_it_is() -> None:
    task = make_task(labels={"com.docker.swarm.node.id": "other", "swarmd.swarm.id": "other", "own": "x"})
    labels = labels_of(task, OWNER)
    assert labels["own"] == "x"
    assert labels["com.docker.swarm.node.id"] == "node"
    assert labels["swarmd.swarm.id"] == "swarm"
    assert labels["com.docker.swarm.task.name"] == "web.1.task1"


def test_a_container_is_ours_by_swarm_node_and_task() -> None:
    task = make_task()
    labels = labels_of(task, OWNER)
    container = Container(id="x", name=task.name, labels=labels, is_running=True, has_started=True)
    assert is_of(container, task, OWNER)
    for name in ("swarmd.swarm.id", "com.docker.swarm.node.id", "com.docker.swarm.task.id"):
        assert not is_of(replace(container, labels=labels | {name: "other"}), task, OWNER)
        assert not is_of(replace(container, labels={k: v for k, v in labels.items() if k != name}), task, OWNER)


def test_a_directory_is_no_image() -> None:
    with pytest.raises(TaskError, match="directory"):
        check(make_task(image="/srv/root"))


def test_what_the_engine_tells_is_read() -> None:
    container = read_container(DOCUMENT)
    assert (container.id, container.name, container.labels) == ("abc", "web.1.task1", {"a": "b"})
    assert (container.is_running, container.has_started, container.exit_code) == (False, True, 137)
    assert (container.is_out_of_memory, container.memory_bytes) == (True, 64 << 20)
    assert (container.stop_signal, container.stop_grace_s) == ("SIGQUIT", 3.0)


def test_one_that_never_started_says_so() -> None:
    state = {"Running": False, "StartedAt": "0001-01-01T00:00:00Z", "Error": "exec: not found"}
    container = read_container({"Id": "abc", "State": state, "Config": {}})
    assert not container.has_started
    assert container.error == "exec: not found"
    assert (container.stop_signal, container.stop_grace_s) == ("SIGTERM", None)
