"""Under which keys objects are found. Pure functions of one object; "" or nothing means: not under any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmd.model import (
    NO_ANNOTATIONS,
    Cluster,
    Config,
    Extension,
    IndexEntry,
    Network,
    Node,
    PortConfig,
    PublishMode,
    Resource,
    Secret,
    Service,
    StoredObject,
    Task,
    TaskSpec,
    Volume,
)

RUNTIME_CONTAINER: Final = "container"
RUNTIME_ATTACHMENT: Final = "attachment"

_ASCII_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def fold(name: str) -> str:
    """`name` for case-insensitive matching. ASCII only: Unicode's tables differ between Python versions, and replicas
    must agree."""
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)


def slot_key(service_id: str, slot: int, node_id: str = "") -> str:
    """Key of the index `task.slot`. Slot 0 is a slot on each node: a global service's tasks all bear it, and who looks
    at the one of a node should not rely on the thousands of others."""
    return f"{service_id}.{slot}" if slot or not node_id else f"{service_id}.0.{node_id}"


def custom_key(index: str, value: str) -> str:
    """Key of a custom index. NUL stands in no valid key, so that `a` with `b|c` is not `a|b` with `c`."""
    return f"{index}\0{value}"


def custom_keys(object: StoredObject) -> tuple[str, ...]:
    """One key for each different entry of the object's indices."""
    indices = indices_of(object)
    return _distinct([custom_key(entry.key, entry.value) for entry in indices]) if indices else ()


def indices_of(object: StoredObject) -> tuple[IndexEntry, ...]:
    """The custom indices of any object."""
    match object:
        case Node() | Service() | Network() | Cluster() | Secret() | Config() | Volume():
            return object.spec.indices
        case Task() | Extension() | Resource():
            return object.annotations.indices
        case _:
            return ()


def name_of(object: StoredObject) -> str:
    """The name by which an object is found, not folded: a node's is its hostname, a task's may be computed."""
    match object:
        case Node():
            return object.description.hostname
        case Service() | Network() | Cluster() | Secret() | Config() | Volume():
            return object.spec.name
        case Task():
            return object.name
        case Extension() | Resource():
            return object.annotations.name
        case _:
            return ""


# -- what a template refers to -----------------------------------------------------------------------------------------
def networks_of(spec: TaskSpec) -> tuple[str, ...]:
    """Ids of the networks that a task is to be in."""
    return _distinct([network.target for network in spec.networks]) if spec.networks else ()


def secrets_of(spec: TaskSpec) -> tuple[str, ...]:
    """Ids of the secrets that a task needs."""
    secrets = spec.container.secrets
    return _distinct([reference.secret_id for reference in secrets]) if secrets else ()


def configs_of(spec: TaskSpec) -> tuple[str, ...]:
    """Ids of the configs that a task needs."""
    configs = spec.container.configs
    return _distinct([reference.config_id for reference in configs]) if configs else ()


def volumes_of(task: Task) -> tuple[str, ...]:
    """Ids of the volumes that a task has got."""
    return _distinct([volume.id for volume in task.volumes]) if task.volumes else ()


def port_key(port: PortConfig, *, is_host: bool | None = None) -> str:
    """Key of the index `service.port`: `tcp/8080`, or `host:tcp/8080` for one of single nodes. "" without a number."""
    if not port.published_port:
        return ""
    on_host = port.publish_mode is PublishMode.HOST if is_host is None else is_host
    return f"{'host:' if on_host else ''}{port.protocol.name.lower()}/{port.published_port}"


def ports_of(service: Service) -> tuple[str, ...]:
    """The ports that were set aside for a service."""
    return _distinct([port_key(port) for port in service.endpoint.ports]) if service.endpoint is not None else ()


def own_names_of(task: Task) -> tuple[str, ...]:
    """A task's own name, folded, if it has one."""
    return (fold(task.annotations.name),) if task.annotations.name else ()


def runtime_of(spec: TaskSpec) -> str:
    """What runs a task: `container`, or `attachment` if nothing does."""
    return RUNTIME_CONTAINER if spec.attachment is None else RUNTIME_ATTACHMENT


# -- whether there is anything to look at: one question for each task that is written ----------------------------------
def is_special_task(task: Task) -> bool:
    """Whether a task has keys beyond those that every task has."""
    spec = task.spec
    container = spec.container
    return bool(
        spec.networks
        or container.secrets
        or container.configs
        or task.volumes
        or task.annotations is not NO_ANNOTATIONS
    )


def is_special_service(service: Service) -> bool:
    """Whether a service has keys beyond its name."""
    spec = service.spec.task
    container = spec.container
    return bool(
        service.spec.indices or spec.networks or container.secrets or container.configs or service.endpoint is not None
    )


def _distinct(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([key for key in keys if key]))


def request_key(csr: bytes) -> str:
    """By which a certificate request (PEM) is found: a piece of its signature, which is as good as random. Two requests
    could share it, so whoever looks compares the whole."""
    return csr[-96:-32].hex()
