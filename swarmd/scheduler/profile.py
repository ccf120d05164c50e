"""A task's profile: everything in it that placement can depend on. Equal profiles are placed together."""

from __future__ import annotations

from swarmd.errors import Invalid
from swarmd.model import (
    ContainerSpec,
    GenericResource,
    Placement,
    PlacementStrategy,
    Platform,
    PublishMode,
    Task,
    TaskSpec,
    TaskState,
)
from swarmd.model.constraints import ENGINE_LABEL, NODE_LABEL, Constraint, Operator, parsed
from swarmd.scheduler.ports import HostPort
from swarmd.scheduler.traits import LOG, PluginKey, plugin_key
from swarmd.state.features import ORCHESTRATION

ProfileKey = tuple[
    int,
    int,
    tuple[GenericResource, ...],
    Placement,
    tuple[str, ...],
    tuple[PluginKey, ...],
    tuple[HostPort, ...],
    str,
    bool,
]

_NO_FEATURES: tuple[str, ...] = ()
_PLAIN = TaskSpec(container=ContainerSpec(image="")).placement
"""The very object that every spec without a placement has."""


def required_features(spec: TaskSpec) -> tuple[str, ...]:
    """Names of the features a node's software must have to run `spec` (foundations: Version skew).

    What the first specs could say belongs to the base set, which every node has by being able to join. What an older
    worker would drop needs the feature it came with.
    """
    if spec.log_driver is not None or spec.resources.reservations.generic:
        return (ORCHESTRATION,)
    return _NO_FEATURES


def host_ports(task: Task) -> tuple[HostPort, ...]:
    """The ports of its node that a task takes. Those that the node chooses are none of the scheduler's business."""
    endpoint = task.endpoint
    if endpoint is None:
        return ()
    return tuple(
        sorted(
            (port.protocol, port.published_port)
            for port in endpoint.ports or endpoint.spec.ports
            if port.publish_mode is PublishMode.HOST and port.published_port
        )
    )


def plugins(task: Task) -> tuple[PluginKey, ...]:
    """What the node's engine must have: the log driver. Drivers of networks and volumes join it with them."""
    driver = task.spec.log_driver or task.log_driver
    return (plugin_key(LOG, driver.name),) if driver is not None and driver.name not in ("", "none") else ()


class Profile:
    """What a task asks of its node. Interned by `Profiles`, so that equality is identity."""

    __slots__ = (
        *("constraints", "features", "asks", "generic", "host_ports", "is_limited", "is_packed", "is_reserving"),
        *("max_replicas", "memory_bytes", "nano_cpus", "node_id", "platforms", "plugins", "preferences"),
    )

    def __init__(self, key: ProfileKey) -> None:
        self.nano_cpus, self.memory_bytes, self.generic, placement = key[:4]
        self.features, self.plugins, self.host_ports, self.node_id, has_service = key[4:]
        self.max_replicas = placement.max_replicas if has_service else 0
        self.constraints = readable(placement.constraints) if placement.constraints else ()
        self.platforms: tuple[Platform, ...] = placement.platforms
        spread = (spread_key(one.spread) for one in placement.preferences) if has_service else ()
        self.preferences = tuple(filter(None, spread))
        """Attributes to spread the service over, first level first."""
        self.is_packed = placement.strategy is PlacementStrategy.BINPACK
        self.is_reserving = bool(self.nano_cpus or self.memory_bytes)
        """Whether it takes CPU or memory: the node's reserved share grows with it."""
        self.is_limited = bool(self.is_reserving or self.max_replicas or self.generic or self.host_ports)
        """Whether a node that takes one task may be too full for the next."""
        self.asks = (
            bool(self.features),
            bool(self.is_reserving or self.generic),
            bool(self.plugins),
            bool(self.constraints),
            bool(self.platforms),
            bool(self.host_ports),
            bool(self.max_replicas),
        )
        """Which of `swarmd.scheduler.filters.FILTERS` apply."""


def readable(constraints: tuple[str, ...]) -> tuple[Constraint, ...]:
    """The constraints. What cannot be read was checked by nobody, and no node meets it."""
    try:
        return parsed(constraints)
    except Invalid:
        return (Constraint("unreadable", Operator.EQUAL, ""),)


def spread_key(descriptor: str) -> str:
    """The attribute of a preference; "" for one that is none: it is passed over, as with SwarmKit."""
    lower = descriptor.lower()
    for prefix in (NODE_LABEL, ENGINE_LABEL):
        if lower.startswith(prefix):
            return prefix + descriptor[len(prefix) :]
    return ""


class Profiles:
    """Gives the one `Profile` of a task."""

    def __init__(self) -> None:
        self._profiles: dict[ProfileKey, Profile] = {}
        self._plain: dict[tuple[int, int, str, bool], Profile] = {}
        """The same of tasks that ask for CPU and memory at most: most do."""

    def of(self, task: Task) -> Profile:
        """The profile of `task`. A task that already names its node (before it is assigned) is pinned to it."""
        spec = task.spec
        reservations = spec.resources.reservations
        node_id = task.node_id if task.status.state < TaskState.ASSIGNED else ""
        if (
            (spec.placement is not _PLAIN and spec.placement != _PLAIN)
            or required_features(spec)
            or task.endpoint is not None
            or spec.log_driver is not None
            or reservations.generic
            or task.log_driver is not None
        ):
            return self._of(task, node_id)
        key = (reservations.nano_cpus, reservations.memory_bytes, node_id, bool(task.service_id))
        profile = self._plain.get(key)
        if profile is None:
            profile = self._plain[key] = Profile((*key[:2], (), _PLAIN, (), (), (), *key[2:]))
        return profile

    def _of(self, task: Task, node_id: str) -> Profile:
        spec = task.spec
        reservations = spec.resources.reservations
        key = (
            reservations.nano_cpus,
            reservations.memory_bytes,
            reservations.generic,
            spec.placement,
            required_features(spec),
            plugins(task),
            host_ports(task),
            node_id,
            bool(task.service_id),
        )
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = Profile(key)
        return profile
