"""Every option of `service create` and `service update`: what it makes of a spec, and that it touches nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    DependencyCondition,
    Driver,
    EndpointMode,
    EndpointSpec,
    FailureAction,
    GenericResource,
    Global,
    GlobalJob,
    Mode,
    Placement,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    PortConfig,
    PortProtocol,
    PublishMode,
    Replicated,
    ReplicatedJob,
    ServiceDependency,
    ServiceSpec,
    UpdateConfig,
    UpdateOrder,
)
from tests.unit.swarmctl.fake_daemon import FakeDaemon, service_view

CREATE = ("service", "create", "--name", "new", "--image", "redis")
UPDATE = ("service", "update", "web")


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.services = [service_view("s", "web")]
    return daemon


def created(daemon: FakeDaemon, *options: str) -> ServiceSpec:
    result = daemon.run(*CREATE, *options)
    assert result.code == 0, result.err
    return daemon.asked("service.create")[-1].spec


def updated(daemon: FakeDaemon, spec: ServiceSpec, *options: str) -> ServiceSpec:
    """What the options make of `spec`."""
    view = daemon.services[0]
    daemon.services[0] = replace(view, service=replace(view.service, spec=spec))
    result = daemon.run(*UPDATE, *options)
    assert result.code == 0, result.err
    return daemon.asked("service.update")[-1].spec


def plain(daemon: FakeDaemon) -> ServiceSpec:
    return daemon.services[0].service.spec


# -- modes -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ((), Replicated(replicas=1)),
        (("--mode", "replicated", "--instances", "3"), Replicated(replicas=3)),
        (("--mode", "global"), Global()),
        (("--mode", "Replicated_Job"), ReplicatedJob(max_concurrent=0, total_completions=1)),
        (
            ("--mode", "replicated-job", "--replicas", "20", "--max-concurrent", "5"),
            ReplicatedJob(max_concurrent=5, total_completions=20),
        ),
        (("--mode", "global-job"), GlobalJob()),
        (("--mode", "global-job", "--follow-nodes"), GlobalJob(follow_nodes=True)),
    ],
)
def test_modes(daemon: FakeDaemon, options: tuple[str, ...], mode: Mode) -> None:
    assert created(daemon, *options).mode == mode


def job(total: int, at_a_time: int = 1) -> ReplicatedJob:
    return ReplicatedJob(total_completions=total, max_concurrent=at_a_time)


@pytest.mark.parametrize(
    ("mode", "options", "wanted"),
    [
        (job(4, 2), ("--replicas", "9"), job(9, 2)),
        (job(4), ("--max-concurrent", "3"), job(4, 3)),
        (GlobalJob(follow_nodes=True), ("--no-follow-nodes",), GlobalJob()),
        (GlobalJob(), ("--follow-nodes=true",), GlobalJob(follow_nodes=True)),
    ],
)
def test_what_is_changed_of_a_mode(daemon: FakeDaemon, mode: Mode, options: tuple[str, ...], wanted: Mode) -> None:
    before = replace(plain(daemon), mode=mode)
    assert updated(daemon, before, *options) == replace(before, mode=wanted)


# -- updates and rollbacks ---------------------------------------------------------------------------------------------
UPDATE_OPTIONS = [
    ("parallelism", "3", {"parallelism": 3}),
    ("delay", "1m", {"delay_s": 60.0}),
    ("monitor", "500ms", {"monitor_s": 0.5}),
    ("failure-action", "continue", {"failure_action": FailureAction.CONTINUE}),
    ("on-failure", "pause", {"failure_action": FailureAction.PAUSE}),
    ("max-failure-ratio", "0.25", {"max_failure_ratio": 0.25}),
    ("max-failure-ratio", "25%", {"max_failure_ratio": 0.25}),
    ("max-failure-ratio", "1/4", {"max_failure_ratio": 0.25}),
    ("order", "start-first", {"order": UpdateOrder.START_FIRST}),
    ("progress-timeout", "0", {"progress_timeout_s": 0.0}),
]


@pytest.mark.parametrize("which", ["update", "rollback"])
@pytest.mark.parametrize(("option", "value", "changes"), UPDATE_OPTIONS)
def test_each_setting_of_an_update_is_its_own(
    daemon: FakeDaemon, which: str, option: str, value: str, changes: dict[str, Any]
) -> None:
    settings = UpdateConfig(parallelism=7, delay_s=8.0, monitor_s=9.0, max_failure_ratio=0.5)
    before = replace(plain(daemon), update=settings, rollback=replace(settings, parallelism=1))
    wanted = replace(before, **{which: replace(getattr(before, which), **changes)})
    assert updated(daemon, before, f"--{which}-{option}", value) == wanted
    assert getattr(created(daemon, f"--{which}-{option}", value), which) == replace(UpdateConfig(), **changes)


def test_an_update_may_be_rolled_back_and_a_rollback_may_not(daemon: FakeDaemon) -> None:
    assert created(daemon, "--update-on-failure", "rollback").update.failure_action is FailureAction.ROLLBACK
    result = daemon.run(*CREATE, "--rollback-on-failure", "rollback")
    assert result.code == 2
    assert result.err.endswith("Hint: pause or continue\n")


# -- placement ---------------------------------------------------------------------------------------------------------
def test_placement_of_a_new_service(daemon: FakeDaemon) -> None:
    spec = created(
        daemon,
        *("--constraint", "node.labels.disk==ssd", "--constraint", "node.role != manager"),
        *("--placement-pref", "spread=node.labels.zone", "--placement-pref", "spread=node.labels.rack"),
        *("--replicas-max-per-node", "2", "--strategy", "binpack"),
        *("--platform", "linux/amd64", "--platform", "Linux"),
    )
    assert spec.task.placement == Placement(
        constraints=("node.labels.disk==ssd", "node.role != manager"),
        max_replicas=2,
        preferences=(PlacementPreference(spread="node.labels.zone"), PlacementPreference(spread="node.labels.rack")),
        platforms=(Platform(os="linux", architecture="amd64"), Platform(os="linux")),
        strategy=PlacementStrategy.BINPACK,
    )


ZONE, RACK = PlacementPreference(spread="node.labels.zone"), PlacementPreference(spread="node.labels.rack")


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (("--constraint", "node.id==x"), {"constraints": ("node.id==x",)}),
        (("--constraint", ""), {"constraints": ()}),
        (("--constraint-add", "node.id==x"), {"constraints": ("a==1", "b!=2", "node.id==x")}),
        (("--constraint-add", "a == 1"), {}),
        (("--constraint-rm", "a == 1"), {"constraints": ("b!=2",)}),
        (("--constraint-rm", "a==1", "--constraint-add", "a==2"), {"constraints": ("b!=2", "a==2")}),
        (("--constraint-rm", "unknown==1"), {}),
        (("--placement-pref", ""), {"preferences": ()}),
        (("--placement-pref-add", "spread=node.labels.rack"), {"preferences": (ZONE, RACK)}),
        (("--placement-pref-rm", "spread=node.labels.zone"), {"preferences": ()}),
        (("--replicas-max-per-node", "0"), {"max_replicas": 0}),
        (("--strategy", "spread"), {"strategy": PlacementStrategy.SPREAD}),
        (("--platform", ""), {"platforms": ()}),
    ],
)
def test_what_is_changed_of_a_placement(daemon: FakeDaemon, options: tuple[str, ...], changes: dict[str, Any]) -> None:
    placement = Placement(
        constraints=("a==1", "b!=2"),
        max_replicas=3,
        preferences=(ZONE,),
        platforms=(Platform(os="linux"),),
        strategy=PlacementStrategy.BINPACK,
    )
    before = replace(plain(daemon), task=replace(plain(daemon).task, placement=placement))
    wanted = replace(before, task=replace(before.task, placement=replace(placement, **changes)))
    assert updated(daemon, before, *options) == wanted


# -- resources ---------------------------------------------------------------------------------------------------------
def test_resources_in_both_spellings(daemon: FakeDaemon) -> None:
    ours = ("--memory-limit", "2g", "--memory-reservation", "1g", "--cpu-limit", "2", "--cpu-reservation", "0.5")
    dockers = ("--limit-memory", "2g", "--reserve-memory", "1g", "--limit-cpu", "2", "--reserve-cpu", "0.5")
    spec = created(daemon, *ours)
    assert spec == created(daemon, *dockers)
    assert spec.task.resources.limits.memory_bytes == 2 << 30
    assert spec.task.resources.reservations.nano_cpus == 5 * 10**8


GPU, FPGA = GenericResource(kind="gpu", amount=2), GenericResource(kind="fpga", amount=1)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--generic-resource", "fpga=1"), (FPGA,)),
        (("--generic-resources", "gpu=2,fpga=1"), (FPGA, GPU)),
        (("--generic-resource", ""), ()),
        (("--generic-resource-add", "fpga=1"), (GPU, FPGA)),
        (("--generic-resource-add", "gpu=4"), (GenericResource(kind="gpu", amount=4),)),
        (("--generic-resource-rm", "gpu"), ()),
        (("--generic-resource-rm", "gpu=2"), ()),
        (("--reserve-cpu", "1"), (GPU,)),
    ],
)
def test_generic_resources(daemon: FakeDaemon, options: tuple[str, ...], wanted: tuple[GenericResource, ...]) -> None:
    task = plain(daemon).task
    reservations = replace(task.resources.reservations, generic=(GPU,))
    before = replace(plain(daemon), task=replace(task, resources=replace(task.resources, reservations=reservations)))
    assert updated(daemon, before, *options).task.resources.reservations.generic == wanted


# -- endpoint ----------------------------------------------------------------------------------------------------------
def port(target: int, published: int = 0, protocol: PortProtocol = PortProtocol.TCP, **more: Any) -> PortConfig:
    return PortConfig(target_port=target, published_port=published, protocol=protocol, **more)


UDP, HOST = PortProtocol.UDP, PublishMode.HOST


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        (("-p", "80"), (port(80),)),
        (("--publish", "8080:80"), (port(80, 8080),)),
        (("--publish", "53:5353/UDP"), (port(5353, 53, UDP),)),
        (("--publish", "8080-8081:80-81"), (port(80, 8080), port(81, 8081))),
        (("--publish", "target=80"), (port(80),)),
        (("--publish", "published=8080,target=80,protocol=udp,mode=host"), (port(80, 8080, UDP, publish_mode=HOST),)),
        (("--publish", "name=http, dst=80, src=8080"), (port(80, 8080, name="http"),)),
        (("-p", "1:1", "-p", "2:2"), (port(1, 1), port(2, 2))),
        (("--ports", "http:80"), (port(80, name="http", publish_mode=HOST),)),
        (("--ports", "dns:53/udp:5353/udp"), (port(53, 5353, UDP, name="dns", publish_mode=HOST),)),
        (("-p", "1:1", "--ports", "http:80:8080"), (port(1, 1), port(80, 8080, name="http", publish_mode=HOST))),
    ],
)
def test_published_ports(daemon: FakeDaemon, options: tuple[str, ...], ports: tuple[PortConfig, ...]) -> None:
    assert created(daemon, *options).endpoint == EndpointSpec(ports=ports)


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        (("--publish", ""), ()),
        (("--publish-add", "443:443"), (port(80, 8080), port(53, 53, UDP), port(443, 443))),
        (("--publish-add", "8080:80"), (port(53, 53, UDP), port(80, 8080))),
        (("--publish-rm", "80"), (port(53, 53, UDP),)),
        (("--publish-rm", "8080:80"), (port(53, 53, UDP),)),
        (("--publish-rm", "53/udp"), (port(80, 8080),)),
        (("--publish-rm", "53"), (port(80, 8080), port(53, 53, UDP))),
        (("--publish-rm", "80", "--publish-add", "8081:80"), (port(53, 53, UDP), port(80, 8081))),
    ],
)
def test_what_is_changed_of_the_ports(
    daemon: FakeDaemon, options: tuple[str, ...], ports: tuple[PortConfig, ...]
) -> None:
    endpoint = EndpointSpec(mode=EndpointMode.DNSRR, ports=(port(80, 8080), port(53, 53, UDP)))
    before = replace(plain(daemon), endpoint=endpoint)
    assert updated(daemon, before, *options) == replace(before, endpoint=replace(endpoint, ports=ports))


def test_the_mode_of_the_endpoint(daemon: FakeDaemon) -> None:
    assert created(daemon, "--endpoint-mode", "dnsrr").endpoint == EndpointSpec(mode=EndpointMode.DNSRR)
    before = replace(plain(daemon), endpoint=EndpointSpec(mode=EndpointMode.DNSRR, ports=(port(80),)))
    assert updated(daemon, before, "--endpoint-mode", "VIP").endpoint == EndpointSpec(ports=(port(80),))


def test_ingress_ports_that_are_not_served_yet_are_told_once(daemon: FakeDaemon) -> None:
    note = "not served until there are networks"
    assert note in daemon.run(*CREATE, "-p", "8080:80").err
    assert note not in daemon.run(*CREATE, "-p", "target=80,mode=host").err
    assert note in daemon.run(*UPDATE, "--publish-add", "8080:80").err
    assert note not in daemon.run(*UPDATE, "--replicas", "3").err


# -- the rest ----------------------------------------------------------------------------------------------------------
def test_what_it_depends_on(daemon: FakeDaemon) -> None:
    wanted = (
        ServiceDependency(service="db", condition=DependencyCondition.HEALTHY),
        ServiceDependency(service="cache"),
        ServiceDependency(service="setup", condition=DependencyCondition.COMPLETED),
    )
    options = ("--depends-on", "db:healthy", "--depends-on", "cache", "--depends-on", "setup:completed")
    assert created(daemon, *options).depends_on == wanted
    before = replace(plain(daemon), depends_on=wanted)
    assert updated(daemon, before, "--depends-on", "") == replace(before, depends_on=())


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--log-driver", "syslog"), Driver(name="syslog")),
        (("--log-driver", "syslog", "--log-opt", "tag=x"), Driver(name="syslog", options={"tag": "x"})),
        (("--log-driver", "json-file"), Driver(name="json-file", options={"a": "1"})),
        (("--log-opt", "b=2"), Driver(name="json-file", options={"b": "2"})),
        (("--log-driver", ""), None),
        (("--replicas", "2"), Driver(name="json-file", options={"a": "1"})),
    ],
)
def test_log_drivers(daemon: FakeDaemon, options: tuple[str, ...], wanted: Driver | None) -> None:
    driver = Driver(name="json-file", options={"a": "1"})
    before = replace(plain(daemon), task=replace(plain(daemon).task, log_driver=driver))
    assert updated(daemon, before, *options).task.log_driver == wanted


def test_lists_of_the_container_are_emptied_by_an_empty_text(daemon: FakeDaemon) -> None:
    task = plain(daemon).task
    before = replace(plain(daemon), task=replace(task, container=replace(task.container, env=("A=1",), args=("x",))))
    after = updated(daemon, before, "--env", "")
    assert (after.task.container.env, after.task.container.args) == ((), ("x",))


# -- what is not understood --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--mode", "local"), '--mode: "local" is not understood'),
        (("--mode", "global", "--replicas", "2"), "--replicas does not go with a service in mode global"),
        (("--mode", "global-job", "--max-concurrent", "2"), "--max-concurrent does not go with"),
        (("--follow-nodes",), "--follow-nodes does not go with a service in mode replicated"),
        (("--update-order", "random"), '--update-order: "random"'),
        (("--update-on-failure", "panic"), '--update-failure-action: "panic"'),
        (("--rollback-max-failure-ratio", "half"), '--rollback-max-failure-ratio: "half"'),
        (("--update-monitor", "soon"), '--update-monitor: "soon"'),
        (("--placement-pref", "zone"), '--placement-pref: "zone"'),
        (("--placement-pref", "pack=node.labels.x"), "--placement-pref"),
        (("--strategy", "pack"), '--strategy: "pack"'),
        (("--platform", "linux/"), '--platform: "linux/"'),
        (("--platform", "a/b/c"), "--platform"),
        (("--replicas-max-per-node", "few"), '--replicas-max-per-node: "few"'),
        (("--generic-resource", "gpu"), '"gpu" is not a generic resource'),
        (("--publish", "http"), '--publish: "http"'),
        (("--publish", "1.2.3.4:80:80"), "--publish"),
        (("--publish", "80/quic"), '--publish: "quic"'),
        (("--publish", "80-82:80-81"), "not of the same length"),
        (("--publish", "82-80:82-80"), "--publish"),
        (("--publish", "published=80"), "target="),
        (("--publish", "target=x"), "--publish"),
        (("--publish", "target=80,colour=red"), "--publish"),
        (("--ports", "http:web"), '--ports: "http:web"'),
        (("--ports", "a:80/tcp:80/udp"), "--ports"),
        (("--endpoint-mode", "anycast"), '--endpoint-mode: "anycast"'),
        (("--depends-on", "db:happy"), '--depends-on: "happy"'),
        (("--depends-on", ":healthy"), "--depends-on"),
        (("--log-opt", "a=b"), "--log-opt: there is no log driver"),
    ],
)
def test_bad_options_are_one_line_and_change_nothing(daemon: FakeDaemon, options: tuple[str, ...], says: str) -> None:
    result = daemon.run(*CREATE, *options)
    assert result.code == 2, result.err
    error, *hint = result.err.splitlines()
    assert error.startswith("Error: ")
    assert says in error
    assert len(hint) == 1
    assert hint[0].startswith("Hint: ")
    assert daemon.calls == []


def test_update_has_no_mode(daemon: FakeDaemon) -> None:
    result = daemon.run(*UPDATE, "--mode", "global")
    assert result.code == 2
    assert "No such option: --mode" in result.err
