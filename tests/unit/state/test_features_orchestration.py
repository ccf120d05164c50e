"""What of orchestration may stand in the log only once every manager knows it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Driver,
    Endpoint,
    EndpointSpec,
    FailureAction,
    GenericResource,
    Global,
    GlobalJob,
    JobStatus,
    NetworkAttachment,
    NetworkDefaults,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    Plugin,
    PortConfig,
    Rebalancing,
    ReplicatedJob,
    Resources,
    ServiceDependency,
    StoredObject,
    TaskDefaults,
    UpdateConfig,
    UpdateStatus,
)
from swarmd.node.founding import FEATURES
from swarmd.state.features import ORCHESTRATION, feature_needed
from tests.unit.state.builders import node, service, swarm

GPU = (GenericResource(kind="gpu", amount=1),)


def set_in(object: Any, path: str, value: object) -> Any:
    name, _, rest = path.partition(".")
    return replace(object, **{name: set_in(getattr(object, name), rest, value) if rest else value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.mode", Global()),
        ("spec.mode", ReplicatedJob()),
        ("spec.mode", GlobalJob()),
        ("spec.update.failure_action", FailureAction.ROLLBACK),
        ("spec.update.monitor_s", 1.0),
        ("spec.rollback", UpdateConfig(parallelism=2)),
        ("spec.endpoint", EndpointSpec(ports=(PortConfig(target_port=80),))),
        ("spec.depends_on", (ServiceDependency(service="db"),)),
        ("spec.task.log_driver", Driver(name="none")),
        ("spec.task.resources.reservations.generic", GPU),
        ("spec.task.placement.preferences", (PlacementPreference(spread="node.labels.zone"),)),
        ("spec.task.placement.platforms", (Platform(os="linux"),)),
        ("spec.task.placement.strategy", PlacementStrategy.BINPACK),
        ("update_status", UpdateStatus()),
        ("job_status", JobStatus()),
        ("endpoint", Endpoint()),
        ("rebalancing", Rebalancing()),
    ],
)
def test_fields_of_services(path: str, value: object) -> None:
    assert feature_needed(service("s1")) == ""
    assert feature_needed(set_in(service("s1"), path, value)) == ORCHESTRATION


@pytest.mark.parametrize(
    "changed",
    [
        set_in(node("n1"), "description.resources", Resources(generic=GPU)),
        set_in(node("n1"), "description.plugins", (Plugin(type="Log", name="syslog"),)),
        set_in(node("n1"), "attachments", (NetworkAttachment(network_id="net1"),)),
        set_in(swarm(), "spec.task_defaults", TaskDefaults(log_driver=Driver(name="none"))),
        set_in(swarm(), "spec.networks", NetworkDefaults(subnet_size=24)),
    ],
)
def test_fields_of_nodes_and_of_the_swarm(changed: StoredObject) -> None:
    assert feature_needed(changed) == ORCHESTRATION


def test_how_many_and_how_slowly_could_be_said_from_the_first_version_on() -> None:
    slow = set_in(service("s1"), "spec.update", UpdateConfig(parallelism=2, delay_s=1.0))
    assert feature_needed(slow) == ""


def test_this_program_has_the_feature() -> None:
    assert ORCHESTRATION in FEATURES
