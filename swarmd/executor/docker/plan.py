"""From a task to the container that runs it, and from what an engine tells of a container to its outcome. Pure.

Names and labels are SwarmKit's (`api/naming`, `swarmd/dockerexec/container.go`), so that tools which know those find
them; a label of our own says which swarm a container is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from swarmd.executor.contract import TaskError
from swarmd.model import PortConfig, PublishMode, Task
from swarmd.model.generic_resources import resource_environment

SWARM_LABEL: Final = "swarmd.swarm.id"
TASK_LABEL: Final = "com.docker.swarm.task"
TASK_ID_LABEL: Final = "com.docker.swarm.task.id"
TASK_NAME_LABEL: Final = "com.docker.swarm.task.name"
NODE_ID_LABEL: Final = "com.docker.swarm.node.id"
SERVICE_ID_LABEL: Final = "com.docker.swarm.service.id"
SERVICE_NAME_LABEL: Final = "com.docker.swarm.service.name"

NEVER: Final = "0001-01-01T00:00:00Z"
"""How the engine writes an instant that never was."""
DEFAULT_STOP_SIGNAL: Final = "SIGTERM"


class Owner(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whose containers they are."""

    swarm_id: str
    node_id: str

    @property
    def filters(self) -> dict[str, list[str]]:
        """What selects them, as the engine's API takes it."""
        return {"label": [f"{SWARM_LABEL}={self.swarm_id}", f"{NODE_ID_LABEL}={self.node_id}"]}


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an engine tells of one container."""

    id: str
    name: str
    labels: dict[str, str]
    is_running: bool
    has_started: bool
    """Whether it ever ran; such a one is never started again."""
    pid: int = 0
    exit_code: int = 0
    is_out_of_memory: bool = False
    memory_bytes: int = 0
    error: str = ""
    """Why its last start failed, in the engine's words."""
    stop_signal: str = DEFAULT_STOP_SIGNAL
    stop_grace_s: float | None = None


def check(task: Task) -> None:
    """Raise `TaskError` for a task that no container can be made of."""
    image = task.spec.container.image
    if image.startswith("/"):
        raise TaskError(f"image {image}: a directory is run by the process executor, not by Docker")


def labels_of(task: Task, owner: Owner) -> dict[str, str]:
    """The container's labels; ours win over the spec's, because they decide what is touched."""
    return {
        **task.spec.container.labels,
        SWARM_LABEL: owner.swarm_id,
        TASK_LABEL: "",
        TASK_ID_LABEL: task.id,
        TASK_NAME_LABEL: task.name,
        NODE_ID_LABEL: owner.node_id,
        SERVICE_ID_LABEL: task.service_id,
        SERVICE_NAME_LABEL: task.service_name,
    }


def is_of(container: Container, task: Task, owner: Owner) -> bool:
    """Whether the container is this node's for this task."""
    labels = container.labels
    return (
        labels.get(SWARM_LABEL) == owner.swarm_id
        and labels.get(NODE_ID_LABEL) == owner.node_id
        and labels.get(TASK_ID_LABEL) == task.id
    )


def create_body(task: Task, owner: Owner) -> dict[str, Any]:
    """The body of the engine's create call (`POST /containers/create`, API 1.41)."""
    container, limits = task.spec.container, task.spec.resources.limits
    body: dict[str, Any] = {
        "Image": container.image,
        "Labels": labels_of(task, owner),
        "Env": [*container.env, *(f"{name}={value}" for name, value in _resources_of(task).items())],
        "Hostname": container.hostname,
        "User": container.user,
        "WorkingDir": container.dir,
        # Read back by whoever stops a container of which nothing else is known.
        "StopTimeout": int(container.stop_grace_period_s),
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            "NanoCpus": limits.nano_cpus,
            "Memory": limits.memory_bytes,
        },
    }
    if ports := host_ports(task):
        body["ExposedPorts"] = {_engine_port(port): {} for port in ports}
        body["HostConfig"]["PortBindings"] = _bindings(ports)
    driver = task.spec.log_driver or task.log_driver
    if driver is not None and driver.name:
        body["HostConfig"]["LogConfig"] = {"Type": driver.name, "Config": dict(driver.options)}
    if container.command:
        body["Entrypoint"] = list(container.command)
    if container.command or container.args:
        body["Cmd"] = list(container.args)
    if container.stop_signal:
        body["StopSignal"] = container.stop_signal
    return body


def host_ports(task: Task) -> tuple[PortConfig, ...]:
    """The ports that are published on this node alone. The others are the swarm's to carry."""
    if task.endpoint is None:
        return ()
    return tuple(port for port in task.endpoint.ports if port.publish_mode is PublishMode.HOST)


def _bindings(ports: Iterable[PortConfig]) -> dict[str, list[dict[str, str]]]:
    """Several may lead to one port of the container; without a number the engine chooses one."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        bindings.setdefault(_engine_port(port), []).append(
            {"HostPort": str(port.published_port) if port.published_port else ""}
        )
    return bindings


def _engine_port(port: PortConfig) -> str:
    return f"{port.target_port}/{port.protocol.name.lower()}"


def _resources_of(task: Task) -> dict[str, str]:
    return resource_environment(task.assigned_generic_resources)


def read_container(document: Mapping[str, Any]) -> Container:
    """What `GET /containers/ID/json` tells."""
    state, config, host = document["State"], document["Config"], document.get("HostConfig") or {}
    is_running = bool(state.get("Running"))
    timeout = config.get("StopTimeout")
    return Container(
        id=document["Id"],
        name=str(document.get("Name", "")).removeprefix("/"),
        labels=dict(config.get("Labels") or {}),
        is_running=is_running,
        has_started=is_running or state.get("StartedAt", NEVER) != NEVER,
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        is_out_of_memory=bool(state.get("OOMKilled")),
        memory_bytes=int(host.get("Memory") or 0),
        error=str(state.get("Error") or ""),
        stop_signal=config.get("StopSignal") or DEFAULT_STOP_SIGNAL,
        stop_grace_s=None if timeout is None else float(timeout),
    )
