from __future__ import annotations

import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import (
    CAConfig,
    ClusterSpec,
    ContainerSpec,
    DispatcherConfig,
    GenericResource,
    NodeSpec,
    OrchestrationConfig,
    Placement,
    PlacementPreference,
    RaftConfig,
    Replicated,
    ResourceLimits,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    validate_cluster_spec,
    validate_node_spec,
    validate_service_spec,
)
from swarmd.model.validate import STOP_SIGNALS


def service(name: str = "web", *, task: dict[str, Any] | None = None, **container: Any) -> ServiceSpec:
    return ServiceSpec(
        name=name, task=TaskSpec(container=ContainerSpec(**({"image": "app:1"} | container)), **(task or {}))
    )


def refusal(check: Callable[[Any], None], spec: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check(spec)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value


def refusal_or_none(spec: ServiceSpec) -> Invalid | None:
    try:
        validate_service_spec(spec)
    except Invalid as error:
        return error
    return None


def field_of(spec: ServiceSpec) -> str | None:
    return refusal(validate_service_spec, spec).field


# -- service -----------------------------------------------------------------------------------------------------------
def test_the_smallest_service_is_legal() -> None:
    validate_service_spec(service())


def test_a_full_service_is_legal() -> None:
    spec = service(
        command=("/bin/sh", "-c"),
        args=("echo a,b; sleep 5", ""),
        env=("A=", "discovery.type=single-node", "B=x=y\nz"),
        dir="/srv",
        user="1000:1000",
        hostname="web-1.example",
        labels={"com.example/a": ""},
        stop_signal="SIGINT",
        stop_grace_period_s=0.0,
        task={
            "restart": RestartPolicy(delay_s=0.0, max_attempts=3, window_s=60.0),
            "resources": ResourceRequirements(
                limits=ResourceLimits(nano_cpus=1_000_000, memory_bytes=4 << 20),
                reservations=ResourceLimits(memory_bytes=4 << 20),
            ),
        },
    )
    validate_service_spec(replace(spec, mode=Replicated(replicas=0), labels={"a b": "c"}))


@pytest.mark.parametrize("name", ["a", "n--d", "a_b-c", "A9", "1", "x" * 63, "a-_-b"])
def test_legal_names(name: str) -> None:
    validate_service_spec(service(name))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "needs a name"), ("x" * 64, "at most 63"), *((bad, "not a legal") for bad in
     ("_n", "n-", ".n", "n.m", "n/m", "-n", "n m", "n\n", "né", "٣"))],
)  # fmt: skip
def test_illegal_names_in_three_messages(name: str, reason: str) -> None:
    error = refusal(validate_service_spec, service(name))
    assert reason in error.message
    assert error.field == "$.name"


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"image": "Not Legal"}, "image"),
        ({"image": ""}, "image"),
        ({"command": ("a\0b",)}, "command[0]"),
        ({"args": ("ok", "x" * (128 << 10) + "y")}, "args[1]"),
        ({"args": ("x",) * 4097}, "args"),
        ({"args": ("\udc80",)}, "args[0]"),
        ({"env": ("A=1", "NOVALUE")}, "env[1]"),
        ({"env": ("=x",)}, "env[0]"),
        ({"env": ("1A=x",)}, "env[0]"),
        ({"env": ("A B=x",)}, "env[0]"),
        ({"env": ("A" * 257 + "=x",)}, "env[0]"),
        ({"dir": "relative"}, "dir"),
        ({"dir": "/x\0"}, "dir"),
        ({"user": "a b"}, "user"),
        ({"user": "x" * 257}, "user"),
        ({"hostname": "-a"}, "hostname"),
        ({"hostname": "a..b"}, "hostname"),
        ({"hostname": "a" * 65}, "hostname"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {" a": "x"}}, "labels"),
        ({"labels": {"a": "x" * (64 << 10) + "y"}}, 'labels["a"]'),
        ({"labels": {str(n): "" for n in range(1001)}}, "labels"),
        ({"stop_signal": "SIGNOPE"}, "stop_signal"),
        ({"stop_signal": "term"}, "stop_signal"),
        ({"stop_grace_period_s": -0.1}, "stop_grace_period_s"),
        ({"stop_grace_period_s": math.inf}, "stop_grace_period_s"),
        ({"stop_grace_period_s": math.nan}, "stop_grace_period_s"),
    ],
)
def test_container_refusals_name_the_field(container: dict[str, Any], field: str) -> None:
    assert field_of(service(**container)) == f"$.task.container.{field}"


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"restart": RestartPolicy(delay_s=-1.0)}, "restart.delay_s"),
        ({"restart": RestartPolicy(window_s=-1.0)}, "restart.window_s"),
        ({"restart": RestartPolicy(max_attempts=-1)}, "restart.max_attempts"),
        ({"force_update": -1}, "force_update"),
        ({"force_update": 1 << 63}, "force_update"),
        (
            {"resources": ResourceRequirements(limits=ResourceLimits(nano_cpus=999_999))},
            "resources.limits.nano_cpus",
        ),
        (
            {"resources": ResourceRequirements(limits=ResourceLimits(nano_cpus=-1))},
            "resources.limits.nano_cpus",
        ),
        (
            {"resources": ResourceRequirements(reservations=ResourceLimits(memory_bytes=(4 << 20) - 1))},
            "resources.reservations.memory_bytes",
        ),
        (
            {
                "resources": ResourceRequirements(
                    limits=ResourceLimits(memory_bytes=8 << 20), reservations=ResourceLimits(memory_bytes=9 << 20)
                )
            },
            "resources.reservations.memory_bytes",
        ),
    ],
)
def test_task_refusals_name_the_field(task: dict[str, Any], field: str) -> None:
    assert field_of(service(task=task)) == f"$.task.{field}"


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (Placement(constraints=("node.role",)), "constraints[0]"),
        (Placement(preferences=(PlacementPreference(spread="node.id"),)), "preferences[0].spread"),
    ],
)
def test_a_placement_that_cannot_be_met_is_refused_with_its_field(placement: Placement, field: str) -> None:
    assert field_of(service(task={"placement": placement})) == f"$.task.placement.{field}"


def test_generic_resources_are_reserved_by_amount_and_not_limited() -> None:
    gpu = GenericResource(kind="gpu", amount=1)
    named = GenericResource(kind="gpu", names=("a",))

    def field_for(**amounts: ResourceLimits) -> str:
        return field_of(service(task={"resources": ResourceRequirements(**amounts)}))

    validate_service_spec(
        service(task={"resources": ResourceRequirements(reservations=ResourceLimits(generic=(gpu,)))})
    )
    assert field_for(limits=ResourceLimits(generic=(gpu,))) == "$.task.resources.limits.generic"
    assert field_for(reservations=ResourceLimits(generic=(named,))) == "$.task.resources.reservations.generic[0].names"
    for kind in ("cpu", "memory"):
        taken = ResourceLimits(generic=(GenericResource(kind=kind, amount=1),))
        assert field_for(reservations=taken) == "$.task.resources.reservations.generic[0].kind"


@pytest.mark.parametrize("replicas", [-1, 1_000_001])
def test_replicas_are_bounded(replicas: int) -> None:
    assert field_of(replace(service(), mode=Replicated(replicas=replicas))) == "$.mode.replicas"


@pytest.mark.parametrize(
    ("update", "field"),
    [
        (UpdateConfig(parallelism=-1), "parallelism"),
        (UpdateConfig(parallelism=1_000_001), "parallelism"),
        (UpdateConfig(delay_s=-0.1), "delay_s"),
        (UpdateConfig(delay_s=math.inf), "delay_s"),
    ],
)
def test_update_options_are_bounded(update: UpdateConfig, field: str) -> None:
    assert field_of(replace(service(), update=update)) == f"$.update.{field}"


def test_the_whole_spec_is_bounded() -> None:
    spec = service(args=("x" * 100_000,) * 11)
    assert refusal(validate_service_spec, spec).field == "$"
    validate_service_spec(service(args=("x" * 100_000,) * 10))


def test_signals_are_those_of_this_platform() -> None:
    assert {name for name in STOP_SIGNALS if not hasattr(signal, name)} == set()


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_accepted_or_refused_in_one_line(name: str, text: str, env: str) -> None:
    spec = service(name, args=(text,), env=(env,), dir=text, user=text, hostname=text, labels={text: env})
    error = refusal_or_none(spec)
    assert error is None or (error.field is not None and error.message.isprintable())


# -- node --------------------------------------------------------------------------------------------------------------
def test_node_specs() -> None:
    validate_node_spec(NodeSpec())
    validate_node_spec(NodeSpec(name="rack 1 ü", labels={"disk": "ssd"}))
    assert refusal(validate_node_spec, NodeSpec(name="x" * 256)).field == "$.name"
    assert refusal(validate_node_spec, NodeSpec(name="a\nb")).field == "$.name"
    assert refusal(validate_node_spec, NodeSpec(labels={"a\x07": ""})).field == "$.labels"


# -- cluster -----------------------------------------------------------------------------------------------------------
def test_the_default_cluster_is_legal() -> None:
    validate_cluster_spec(ClusterSpec())


@pytest.mark.parametrize(
    "spec",
    [
        ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=1.0)),
        ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=300.0)),
        ClusterSpec(orchestration=OrchestrationConfig(task_history_retention_limit=-1)),
        ClusterSpec(ca=CAConfig(node_cert_expiry_s=3600.0)),
        ClusterSpec(raft=RaftConfig(heartbeat_tick=1, election_tick=3)),
        ClusterSpec(raft=RaftConfig(snapshot_interval=100, log_entries_for_slow_followers=0)),
    ],
)
def test_bounds_of_cluster_settings_are_legal(spec: ClusterSpec) -> None:
    validate_cluster_spec(spec)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (ClusterSpec(name="other"), "name"),
        (ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=0.9)), "dispatcher.heartbeat_period_s"),
        (ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=301)), "dispatcher.heartbeat_period_s"),
        (ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=math.nan)), "dispatcher.heartbeat_period_s"),
        (ClusterSpec(ca=CAConfig(node_cert_expiry_s=3599.0)), "ca.node_cert_expiry_s"),
        (ClusterSpec(raft=RaftConfig(heartbeat_tick=0)), "raft.heartbeat_tick"),
        (ClusterSpec(raft=RaftConfig(heartbeat_tick=4)), "raft.election_tick"),
        (ClusterSpec(raft=RaftConfig(election_tick=2)), "raft.election_tick"),
        (ClusterSpec(raft=RaftConfig(election_tick=601)), "raft.election_tick"),
        (ClusterSpec(raft=RaftConfig(snapshot_interval=99)), "raft.snapshot_interval"),
        (ClusterSpec(raft=RaftConfig(log_entries_for_slow_followers=-1)), "raft.log_entries_for_slow_followers"),
        (
            ClusterSpec(orchestration=OrchestrationConfig(task_history_retention_limit=10**7)),
            "orchestration.task_history_retention_limit",
        ),
    ],
)
def test_cluster_refusals_name_the_field(spec: ClusterSpec, field: str) -> None:
    assert refusal(validate_cluster_spec, spec).field == f"$.{field}"
