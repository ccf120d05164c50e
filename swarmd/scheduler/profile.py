"""A task's profile: everything in its spec that placement can depend on. Equal profiles are placed together."""

from __future__ import annotations

from swarmd.model import Task, TaskSpec, TaskState

ProfileKey = tuple[int, int, int, tuple[str, ...], tuple[str, ...], str]


def required_features(spec: TaskSpec) -> tuple[str, ...]:
    """Names of the features a node's software must have to run `spec` (foundations: Version skew).

    Everything that today's spec can say belongs to the base set, which every node has by being able to join. The first
    field that an older worker would drop gets its feature's name here.
    """
    return ()


class Profile:
    """What a task asks of its node. Interned by `Profiles`, so that equality is identity."""

    __slots__ = ("constraints", "features", "is_limited", "max_replicas", "memory_bytes", "nano_cpus", "node_id")

    def __init__(self, key: ProfileKey) -> None:
        self.nano_cpus, self.memory_bytes, self.max_replicas, self.constraints, self.features, self.node_id = key
        self.is_limited = bool(self.nano_cpus or self.memory_bytes or self.max_replicas)
        """Whether a node that takes one task may be too full for the next."""


class Profiles:
    """Gives the one `Profile` of a task."""

    def __init__(self) -> None:
        self._profiles: dict[ProfileKey, Profile] = {}

    def of(self, task: Task) -> Profile:
        """The profile of `task`. A task that already names its node (before it is assigned) is pinned to it."""
        spec = task.spec
        reservations = spec.resources.reservations
        placement = spec.placement
        key = (
            reservations.nano_cpus,
            reservations.memory_bytes,
            placement.max_replicas if task.service_id else 0,
            placement.constraints,
            required_features(spec),
            task.node_id if task.status.state < TaskState.ASSIGNED else "",
        )
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = Profile(key)
        return profile
