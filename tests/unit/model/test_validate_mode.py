"""Which modes are accepted, and with what."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import (
    ContainerSpec,
    Global,
    GlobalJob,
    Mode,
    Replicated,
    ReplicatedJob,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    validate_service_spec,
)
from swarmd.model.validate_mode import REPLICAS_MAX, check_mode


def spec(mode: Mode, **fields: object) -> ServiceSpec:
    return replace(ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="a")), mode=mode), **fields)


@pytest.mark.parametrize(
    "mode",
    [
        Replicated(replicas=0),
        Replicated(replicas=REPLICAS_MAX),
        Global(),
        ReplicatedJob(),
        ReplicatedJob(total_completions=0, max_concurrent=0),
        ReplicatedJob(total_completions=20, max_concurrent=5),
        GlobalJob(),
        GlobalJob(follow_nodes=True),
    ],
)
def test_each_mode_is_offered(mode: Mode) -> None:
    validate_service_spec(spec(mode))


@pytest.mark.parametrize(
    ("mode", "field", "words"),
    [
        (Replicated(replicas=-1), "$.mode.replicas", "cannot be negative"),
        (Replicated(replicas=REPLICAS_MAX + 1), "$.mode.replicas", "at most"),
        (ReplicatedJob(total_completions=-1), "$.mode.total_completions", "cannot be negative"),
        (ReplicatedJob(total_completions=REPLICAS_MAX + 1), "$.mode.total_completions", "at most"),
        (ReplicatedJob(max_concurrent=-2), "$.mode.max_concurrent", "cannot be negative"),
    ],
)
def test_counts_have_limits(mode: Mode, field: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as raised:
        check_mode(spec(mode))
    assert raised.value.field == field


@pytest.mark.parametrize("mode", [ReplicatedJob(), GlobalJob()])
@pytest.mark.parametrize(
    ("field", "message"),
    [("update", "Jobs may not have an update config"), ("rollback", "Jobs may not have a rollback config")],
)
def test_jobs_are_not_updated_slot_by_slot(mode: Mode, field: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as raised:
        validate_service_spec(spec(mode, **{field: UpdateConfig(parallelism=2)}))
    assert (raised.value.field, bool(raised.value.hint)) == (f"$.{field}", True)


def test_global_services_are_updated_node_by_node() -> None:
    validate_service_spec(spec(Global(), update=UpdateConfig(parallelism=2), rollback=UpdateConfig(parallelism=0)))
