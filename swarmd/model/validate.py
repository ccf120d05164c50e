"""The validity of specs: each function returns nothing or raises `Invalid` naming the field, the reason, a hint.

Lengths are judged before any pattern sees a text, and every pattern is matched in linear time, so that a hostile spec
costs no more than its size. Sources: reference api-and-cli 1.2 and 1.5, SwarmKit `manager/controlapi/service.go`.
"""

from __future__ import annotations

import re
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import (
    INTEGER_MAX,
    check_duration,
    check_indices,
    check_integer,
    check_labels,
    check_name,
    check_size,
    check_strings,
    check_text,
)
from swarmd.model.image import image_problem
from swarmd.model.quote import quote
from swarmd.model.specs import (
    ClusterSpec,
    ContainerSpec,
    NodeSpec,
    RaftConfig,
    ResourceLimits,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
)
from swarmd.model.validate_ca import check_ca
from swarmd.model.validate_endpoint import check_endpoint
from swarmd.model.validate_mode import REPLICAS_MAX, check_mode
from swarmd.model.validate_networks import check_network_defaults
from swarmd.model.validate_placement import check_generic_reservations, check_log_driver, check_placement
from swarmd.model.validate_references import check_references
from swarmd.model.validate_update import check_update_config

NODE_NAME_CHARACTERS_MAX: Final = 255
DEPENDENCIES_MAX: Final = 64
ENV_NAME_CHARACTERS_MAX: Final = 256
HOSTNAME_CHARACTERS_MAX: Final = 64
USER_CHARACTERS_MAX: Final = 256
DIR_BYTES_MAX: Final = 4_096
NANO_CPUS_MIN: Final = 1_000_000
MEMORY_BYTES_MIN: Final = 4 << 20
HEARTBEAT_PERIOD_S_MIN: Final = 1.0
HEARTBEAT_PERIOD_S_MAX: Final = 300.0
TICKS_MAX: Final = 600
SNAPSHOT_INTERVAL_MIN: Final = 100

_SIGNALS = """
    ABRT ALRM BUS CHLD CONT FPE HUP ILL INT IO KILL PIPE PROF PWR QUIT RTMAX RTMIN SEGV STKFLT STOP SYS TERM TRAP TSTP
    TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ
"""
STOP_SIGNALS: Final = frozenset(f"SIG{name}" for name in _SIGNALS.split())
"""Linux's signals, as `signal.Signals` names them."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z0-9_.-]+\$?(?::[A-Za-z0-9_.-]+)?")


def validate_service_spec(spec: ServiceSpec) -> None:
    """Raise `Invalid` unless `spec` could run (reference api-and-cli 1.5)."""
    check_name(spec.name, "service")
    check_labels(spec.labels, "$.labels")
    check_mode(spec)
    _check_container(spec.task.container, "$.task.container")
    check_references(spec.task.container, "$.task.container")
    _check_resources(spec.task.resources, "$.task.resources")
    _check_restart(spec.task.restart, "$.task.restart")
    check_log_driver(spec.task.log_driver, "$.task.log_driver")
    check_placement(spec.task.placement, "$.task.placement")
    check_integer(spec.task.force_update, "$.task.force_update", "the force counter")
    check_update_config(spec.update, "$.update", "update")
    check_update_config(spec.rollback, "$.rollback", "rollback")
    check_endpoint(spec.endpoint, "$.endpoint")
    _check_dependencies(spec)
    _check_not_offered(spec)
    check_indices(spec.indices, "$.indices")
    check_size(spec)


def validate_node_spec(spec: NodeSpec) -> None:
    """Raise `Invalid` unless `spec` can be stored."""
    if len(spec.name) > NODE_NAME_CHARACTERS_MAX:
        raise Invalid(f"a node's name has at most {NODE_NAME_CHARACTERS_MAX} characters", field="$.name")
    if not spec.name.isprintable():
        raise Invalid("a node's name holds no control characters", field="$.name")
    check_text(spec.name, "$.name", NODE_NAME_CHARACTERS_MAX * 4)
    check_labels(spec.labels, "$.labels")
    check_indices(spec.indices, "$.indices")
    check_size(spec)


def validate_cluster_spec(spec: ClusterSpec) -> None:
    """Raise `Invalid` unless `spec` can be stored."""
    if spec.name != "default":
        raise Invalid(f'the cluster is named "default", not {quote(spec.name)}', field="$.name")
    check_labels(spec.labels, "$.labels")
    limit = spec.orchestration.task_history_retention_limit
    if abs(limit) > REPLICAS_MAX:
        raise Invalid(
            f"the task history limit is at most {REPLICAS_MAX}, not {limit}",
            field="$.orchestration.task_history_retention_limit",
            hint="a negative one keeps all",
        )
    check_duration(
        spec.dispatcher.heartbeat_period_s,
        "$.dispatcher.heartbeat_period_s",
        "the heartbeat period",
        minimum=HEARTBEAT_PERIOD_S_MIN,
        maximum=HEARTBEAT_PERIOD_S_MAX,
    )
    check_ca(spec.ca, "$.ca")
    check_log_driver(spec.task_defaults.log_driver, "$.task_defaults.log_driver")
    check_network_defaults(spec.networks, "$.networks")
    _check_raft(spec.raft, "$.raft")
    check_indices(spec.indices, "$.indices")
    check_size(spec)


# -- parts of a service ----------------------------------------------------------------------------------------------
def _check_container(spec: ContainerSpec, path: str) -> None:
    problem = image_problem(spec.image)
    if problem is not None:
        raise Invalid(
            f"invalid image: {problem}",
            field=f"{path}.image",
            hint="a reference like registry.example:5000/team/app:1.2, or an absolute directory",
        )
    check_strings(spec.command, f"{path}.command")
    check_strings(spec.args, f"{path}.args")
    check_strings(spec.env, f"{path}.env")
    for position, entry in enumerate(spec.env):
        _check_env(entry, f"{path}.env[{position}]")
    _check_dir(spec.dir, f"{path}.dir")
    _check_user(spec.user, f"{path}.user")
    _check_hostname(spec.hostname, f"{path}.hostname")
    check_labels(spec.labels, f"{path}.labels")
    _check_stop_signal(spec.stop_signal, f"{path}.stop_signal")
    check_duration(spec.stop_grace_period_s, f"{path}.stop_grace_period_s", "the stop grace period")


def _check_dependencies(spec: ServiceSpec) -> None:
    if len(spec.depends_on) > DEPENDENCIES_MAX:
        raise Invalid(f"there are at most {DEPENDENCIES_MAX} dependencies", field="$.depends_on")
    seen: set[str] = set()
    for position, dependency in enumerate(spec.depends_on):
        field = f"$.depends_on[{position}].service"
        if not dependency.service or len(dependency.service) > NODE_NAME_CHARACTERS_MAX:
            raise Invalid("a dependency names a service", field=field)
        if dependency.service in seen:
            raise Invalid(f"{quote(dependency.service)} is named twice", field=field)
        seen.add(dependency.service)


def _check_not_offered(service: ServiceSpec) -> None:
    """What the state can hold and nothing acts upon yet, and what only the swarm itself may ask for."""
    spec = service.task
    if spec.networks:
        raise Invalid("networks cannot be given to tasks yet", field="$.task.networks", hint="leave them out")
    if spec.attachment is not None:
        raise Invalid("a service cannot be a network attachment", field="$.task.attachment", hint="leave it out")


def _check_env(entry: str, path: str) -> None:
    name, equals, _ = entry.partition("=")
    if not equals:
        raise Invalid(f"{quote(entry)} is not NAME=value", field=path)
    if len(name) > ENV_NAME_CHARACTERS_MAX:
        raise Invalid(f"a variable's name has at most {ENV_NAME_CHARACTERS_MAX} characters", field=path)
    if _ENV_NAME.fullmatch(name) is None:
        raise Invalid(
            f"{quote(name)} is not a legal variable name",
            field=path,
            hint="letters, digits, _ . and -, beginning with a letter or _",
        )


def _check_dir(text: str, path: str) -> None:
    check_text(text, path, DIR_BYTES_MAX)
    if text and not text.startswith("/"):
        raise Invalid(f"the working directory {quote(text)} is not absolute", field=path)


def _check_user(text: str, path: str) -> None:
    if len(text) > USER_CHARACTERS_MAX:
        raise Invalid(f"a user has at most {USER_CHARACTERS_MAX} characters", field=path)
    if text and _USER.fullmatch(text) is None:
        raise Invalid(
            f"{quote(text)} is not a legal user", field=path, hint="NAME or UID, with :GROUP or :GID if wanted"
        )


def _check_hostname(text: str, path: str) -> None:
    if len(text) > HOSTNAME_CHARACTERS_MAX:
        raise Invalid(f"a hostname has at most {HOSTNAME_CHARACTERS_MAX} characters", field=path)
    if text and not all(_HOST_LABEL.fullmatch(label) for label in text.split(".")):
        raise Invalid(
            f"{quote(text)} is not a legal hostname", field=path, hint="letters, digits and -, in parts joined by ."
        )


def _check_stop_signal(text: str, path: str) -> None:
    if text and text not in STOP_SIGNALS:
        raise Invalid(f"unknown signal {quote(text)}", field=path, hint="a name such as SIGTERM, SIGINT or SIGQUIT")


def _check_resources(spec: ResourceRequirements, path: str) -> None:
    _check_amounts(spec.limits, f"{path}.limits")
    _check_amounts(spec.reservations, f"{path}.reservations")
    if spec.limits.generic:
        raise Invalid(
            "generic resources cannot be limited", field=f"{path}.limits.generic", hint="they are reserved alone"
        )
    check_generic_reservations(spec.reservations.generic, f"{path}.reservations.generic")
    limit, reservation = spec.limits.memory_bytes, spec.reservations.memory_bytes
    if limit and reservation > limit:
        raise Invalid(
            f"the memory reservation ({reservation} bytes) is above the limit ({limit} bytes)",
            field=f"{path}.reservations.memory_bytes",
        )


def _check_amounts(amounts: ResourceLimits, path: str) -> None:
    cpus, memory = amounts.nano_cpus, amounts.memory_bytes
    check_integer(cpus, f"{path}.nano_cpus", "the amount of CPU")
    check_integer(memory, f"{path}.memory_bytes", "the amount of memory")
    if 0 < cpus < NANO_CPUS_MIN:
        raise Invalid(
            f"{cpus} nano-CPUs are too few", field=f"{path}.nano_cpus", hint="at least 0.001 CPU, or 0 for none"
        )
    if 0 < memory < MEMORY_BYTES_MIN:
        raise Invalid(f"{memory} bytes are too few", field=f"{path}.memory_bytes", hint="at least 4 MiB, or 0 for none")


def _check_restart(spec: RestartPolicy, path: str) -> None:
    check_duration(spec.delay_s, f"{path}.delay_s", "the restart delay")
    check_duration(spec.window_s, f"{path}.window_s", "the restart window")
    check_integer(spec.max_attempts, f"{path}.max_attempts", "the number of restart attempts")


def _check_raft(spec: RaftConfig, path: str) -> None:
    if not 1 <= spec.heartbeat_tick <= TICKS_MAX:
        raise Invalid(
            f"the heartbeat is 1 to {TICKS_MAX} ticks, not {spec.heartbeat_tick}", field=f"{path}.heartbeat_tick"
        )
    if not 3 * spec.heartbeat_tick <= spec.election_tick <= TICKS_MAX:
        raise Invalid(
            f"the election timeout is {3 * spec.heartbeat_tick} to {TICKS_MAX} ticks, not {spec.election_tick}",
            field=f"{path}.election_tick",
            hint="at least three heartbeats, or one lost heartbeat starts an election",
        )
    if not SNAPSHOT_INTERVAL_MIN <= spec.snapshot_interval <= INTEGER_MAX:
        raise Invalid(
            f"snapshots are at least {SNAPSHOT_INTERVAL_MIN} entries apart, not {spec.snapshot_interval}",
            field=f"{path}.snapshot_interval",
        )
    check_integer(
        spec.log_entries_for_slow_followers, f"{path}.log_entries_for_slow_followers", "the number of entries kept"
    )
