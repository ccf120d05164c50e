"""Each filter lets the right nodes through, says what it turned away, and opens again when its reason goes
(reference orchestration 7.4, 10: 15, 20-22, 28-30)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Driver,
    Endpoint,
    GenericResource,
    NodeState,
    Platform,
    Plugin,
    PortConfig,
    PortProtocol,
    PublishMode,
    Role,
    Task,
)
from swarmd.scheduler import Scheduler
from swarmd.state.features import ORCHESTRATION
from tests.unit.scheduler.world import S, Swarm, make_node, make_tasks

KNOWS = (ORCHESTRATION,)


def host(*ports: tuple[PortProtocol, int], mode: PublishMode = PublishMode.HOST) -> Endpoint:
    return Endpoint(
        ports=tuple(
            PortConfig(protocol=protocol, target_port=80, published_port=port, publish_mode=mode)
            for protocol, port in ports
        )
    )


def place(swarm: Swarm, *, endpoint: Endpoint | None = None, service_id: str = "web", **spec: Any) -> Task:
    (task,) = make_tasks(1, service_id, **spec)
    swarm.add([replace(task, endpoint=endpoint)])
    swarm.run()
    return swarm.tasks[task.id]


@pytest.mark.parametrize(
    ("wanted", "has", "fits"),
    [
        (Platform(os="linux", architecture="x86_64"), Platform(os="linux", architecture="amd64"), True),
        (Platform(os="linux", architecture="amd64"), Platform(os="linux", architecture="x86_64"), True),
        (Platform(os="linux", architecture="aarch64"), Platform(os="linux", architecture="arm64"), True),
        (Platform(os="linux", architecture="arm64"), Platform(os="linux", architecture="x86_64"), False),
        (Platform(os="windows", architecture="amd64"), Platform(os="linux", architecture="amd64"), False),
        (Platform(os="Linux"), Platform(os="linux", architecture="amd64"), False),
        (Platform(os="linux"), Platform(os="linux", architecture="mips"), True),
        (Platform(architecture="amd64"), Platform(os="plan9", architecture="x86_64"), True),
        (Platform(os="linux"), Platform(), False),
    ],
)
def test_platforms_with_their_second_names_and_empty_parts(wanted: Platform, has: Platform, fits: bool) -> None:
    swarm = Swarm(make_node("n1", platform=has))
    task = place(swarm, platforms=(Platform(os="other"), wanted))
    assert (task.node_id == "n1") is fits
    if not fits:
        assert swarm.told[task.id] == "no suitable node (unsupported platform on 1 node)"


@pytest.mark.parametrize(
    ("constraint", "fits"),
    [
        ("node.labels.zone == EU", True),
        ("node.labels.Zone == eu", False),
        ("node.labels.zone == e*", False),
        ("node.labels.zone != us", True),
        ("node.labels.none != us", True),
        ("node.labels.none == us", False),
        ("engine.labels.zone == eu", False),
        ("engine.labels.disk == ssd", True),
        ("node.hostname == N1", True),
        ("node.id != n1", False),
        ("node.role == worker", True),
        ("node.platform.arch == x86_64", False),
        ("node.ip == 10.1.0.0/16", True),
        ("node.ip == 0.0.0.0/0", True),
        ("node.ip == 10.1.2.4", False),
        ("node.ip != 10.1.2.4", True),
        ("node.ip != nonsense", False),
        ("node.colour != red", False),
    ],
)
def test_constraints(constraint: str, fits: bool) -> None:
    node = make_node(
        *("n1",),
        labels={"zone": "eu"},
        engine_labels={"disk": "ssd"},
        addr="10.1.2.3",
        platform=Platform(os="linux", architecture="amd64"),
    )
    swarm = Swarm(node)
    task = place(swarm, constraints=(constraint,))
    assert (task.node_id == "n1") is fits
    if not fits:
        assert swarm.told[task.id] == "no suitable node (scheduling constraints not satisfied on 1 node)"


def test_all_constraints_must_hold() -> None:
    swarm = Swarm(make_node("n1", labels={"a": "1"}), make_node("n2", labels={"a": "1", "b": "2"}))
    assert place(swarm, constraints=("node.labels.a==1", "node.labels.b==2")).node_id == "n2"


def test_what_cannot_be_read_as_a_constraint_is_met_nowhere() -> None:
    assert place(Swarm(make_node("n1")), constraints=("nonsense",)).node_id == ""


@pytest.mark.parametrize(
    ("driver", "plugins", "fits"),
    [
        ("gelf", (Plugin(type="Log", name="gelf"),), True),
        ("gelf", (Plugin(type="Log", name="gelf:latest"),), True),
        ("gelf", (Plugin(type="Log", name="gelf:1.0"),), False),
        ("gelf", (Plugin(type="Network", name="gelf"),), True),
        ("gelf", (Plugin(type="Log", name="syslog"), Plugin(type="Network", name="gelf")), False),
        ("gelf", (), True),
        ("none", (Plugin(type="Log", name="syslog"),), True),
        ("", (Plugin(type="Log", name="syslog"),), True),
    ],
)
def test_log_drivers(driver: str, plugins: tuple[Plugin, ...], fits: bool) -> None:
    swarm = Swarm(make_node("n1", plugins=plugins, features=KNOWS))
    task = place(swarm, log_driver=driver)
    assert (task.node_id == "n1") is fits
    if not fits:
        assert swarm.told[task.id] == "no suitable node (missing plugin on 1 node)"


def test_a_task_with_its_own_log_driver_goes_where_that_is() -> None:
    node = make_node("n1", plugins=(Plugin(type="Log", name="syslog"),))
    (task,) = make_tasks(1)
    swarm = Swarm(node)
    swarm.add([replace(task, log_driver=Driver(name="gelf"))])
    swarm.run()
    assert swarm.told[task.id] == "no suitable node (missing plugin on 1 node)"


def test_host_ports_are_taken_per_protocol_and_node() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2"))
    tcp = place(swarm, service_id="tcp", endpoint=host((PortProtocol.TCP, 58)))
    udp = place(swarm, service_id="udp", endpoint=host((PortProtocol.UDP, 58)))
    assert {tcp.node_id, udp.node_id} == {"n1", "n2"}
    both = place(swarm, service_id="both", endpoint=host((PortProtocol.TCP, 58), (PortProtocol.UDP, 58)))
    assert swarm.told[both.id] == "no suitable node (host-mode port already in use on 2 nodes)"
    assert "port 58/tcp on 1 node, on n1 by tcp" in swarm.failures[both.id].verdicts[0].detail
    swarm.remove(tcp.id)
    swarm.run()
    assert swarm.tasks[both.id].node_id == "n1"


def test_ingress_ports_and_ports_the_node_chooses_meet_nowhere() -> None:
    swarm = Swarm(make_node("n1"))
    for service_id, endpoint in (
        ("a", host((PortProtocol.TCP, 80), mode=PublishMode.INGRESS)),
        ("b", host((PortProtocol.TCP, 80), mode=PublishMode.INGRESS)),
        ("c", host((PortProtocol.TCP, 0))),
        ("d", host((PortProtocol.TCP, 0))),
        ("e", host((PortProtocol.TCP, 80))),
    ):
        assert place(swarm, service_id=service_id, endpoint=endpoint).node_id == "n1"


def test_a_group_with_host_ports_gets_one_task_a_node() -> None:
    swarm = Swarm(*[make_node(f"n{i}") for i in range(3)])
    swarm.add([replace(task, endpoint=host((PortProtocol.TCP, 80))) for task in make_tasks(20)])
    swarm.run()
    assert swarm.counts() == [1, 1, 1]
    assert set(swarm.told.values()) == {"no suitable node (host-mode port already in use on 3 nodes)"}


def test_a_group_gets_each_member_of_a_set_once() -> None:
    gpus = GenericResource(kind="gpu", names=tuple(f"g{i}" for i in range(12)))
    swarm = Swarm(*[make_node(id, generic=(gpus,), features=KNOWS) for id in ("n1", "n2")])
    swarm.add(make_tasks(10, generic=(GenericResource(kind="gpu", amount=2),)))
    swarm.run()
    given = [
        (t.node_id, name) for t in swarm.tasks.values() for one in t.assigned_generic_resources for name in one.names
    ]
    assert len(given) == len(set(given)) == 20
    assert swarm.counts() == [5, 5]


def test_a_new_leader_knows_what_was_given_out() -> None:
    gpus = GenericResource(kind="gpu", names=("a", "b"))
    node = make_node("n1", generic=(gpus,), features=KNOWS)
    first = Swarm(node)
    held = place(first, generic=(GenericResource(kind="gpu", amount=1),))
    heir = Swarm(node, tasks=(held,))
    got = place(heir, service_id="next", generic=(GenericResource(kind="gpu", amount=1),))
    assert got.assigned_generic_resources == (GenericResource(kind="gpu", names=("b",)),)


def test_a_refused_decision_gives_generic_resources_and_ports_back() -> None:
    node = make_node("n1", generic=(GenericResource(kind="gpu", names=("a",)),), features=KNOWS)
    (task,) = make_tasks(1, generic=(GenericResource(kind="gpu", amount=1),))
    task = replace(task, endpoint=host((PortProtocol.TCP, 80)))
    scheduler = Scheduler([node], [task])
    for _ in range(2):
        (decision,), _ = scheduler.place(0.0, limit=10)
        assert decision.generic == (GenericResource(kind="gpu", names=("a",)),)
        scheduler.refused(task.id)


def test_max_replicas_with_constraints_opens_with_a_third_node() -> None:
    swarm = Swarm(make_node("n1", labels={"zone": "eu"}), make_node("n2"))
    swarm.add(make_tasks(2, max_replicas=1, constraints=("node.labels.zone==eu",)))
    swarm.run()
    assert swarm.told["web.1"] == (
        "no suitable node (scheduling constraints not satisfied on 1 node; max replicas per node limit exceed)"
    )
    swarm.scheduler.node_changed(make_node("n3", labels={"zone": "eu"}))
    swarm.run()
    assert swarm.nodes_of("web") == ["n1", "n3"]


def test_services_whose_nodes_are_too_old_for_their_fields_wait() -> None:
    swarm = Swarm(make_node("n1", generic=(GenericResource(kind="gpu", amount=1),)))
    task = place(swarm, generic=(GenericResource(kind="gpu", amount=1),))
    assert swarm.told[task.id] == "no suitable node (software too old for this service on 1 node)"


GPU = (GenericResource(kind="gpu", amount=1),)


@pytest.mark.parametrize(
    ("spec", "before", "after"),
    [
        ({"constraints": ("node.labels.zone==eu",)}, {}, {"labels": {"zone": "eu"}}),
        ({"constraints": ("engine.labels.disk==ssd",)}, {}, {"engine_labels": {"disk": "ssd"}}),
        ({"constraints": ("node.role==manager",)}, {}, {"role": Role.MANAGER}),
        ({"constraints": ("node.ip==10.0.0.0/8",)}, {"addr": "11.0.0.1"}, {"addr": "10.0.0.1"}),
        ({"platforms": (Platform(os="linux"),)}, {}, {"platform": Platform(os="linux")}),
        ({"generic": GPU}, {}, {"generic": GPU}),
        ({"log_driver": "gelf"}, {"plugins": (Plugin(type="Log", name="x"),)}, {"plugins": ()}),
        ({"memory": 5}, {"memory": 4}, {"memory": 5}),
        ({}, {"state": NodeState.DOWN}, {"state": NodeState.READY}),
    ],
)
def test_a_parked_task_is_placed_as_soon_as_its_node_changes(
    spec: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    swarm = Swarm(make_node("n1", features=KNOWS, **before))
    task = place(swarm, **spec)
    assert task.node_id == ""
    assert not swarm.scheduler.has_work
    swarm.scheduler.node_changed(make_node("n1", features=KNOWS, **after))
    swarm.run()
    assert swarm.tasks[task.id].node_id == "n1"


@pytest.mark.parametrize(
    "free",
    [lambda swarm: swarm.move("first.0", S.FAILED), lambda swarm: swarm.remove("first.0")],
    ids=["ended", "deleted"],
)
@pytest.mark.parametrize(
    ("spec", "endpoint"),
    [({"generic": GPU}, None), ({"cpus": 4}, None), ({}, host((PortProtocol.UDP, 53)))],
    ids=["generic", "cpu", "port"],
)
def test_a_parked_task_is_placed_as_soon_as_another_lets_go(
    free: Callable[[Swarm], None], spec: dict[str, Any], endpoint: Endpoint | None
) -> None:
    swarm = Swarm(make_node("n1", cpus=5, generic=GPU, features=KNOWS))
    assert place(swarm, service_id="first", endpoint=endpoint, **spec).node_id == "n1"
    waiting = place(swarm, service_id="second", endpoint=endpoint, **spec)
    assert waiting.node_id == ""
    assert not swarm.scheduler.has_work
    free(swarm)
    swarm.run()
    assert swarm.tasks[waiting.id].node_id == "n1"


def test_masks_of_more_values_than_are_kept_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYS_MAX", "MASKS_MAX", "ADDRESSES_MAX"):
        monkeypatch.setattr(f"swarmd.scheduler.attributes.{name}", 2)
    nodes = [make_node(f"n{i}", labels={f"k{i}": "v", "all": str(i)}, addr=f"10.0.0.{i}") for i in range(6)]
    swarm = Swarm(*nodes)
    for turn in range(2):
        for i in range(6):
            for kind, constraint in (
                ("a", f"node.labels.k{i}==v"),
                ("b", f"node.labels.all=={i}"),
                ("c", f"node.ip==10.0.0.{i}"),
            ):
                assert place(swarm, service_id=f"{kind}{i}.{turn}", constraints=(constraint,)).node_id == f"n{i}"
