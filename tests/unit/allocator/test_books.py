"""Addresses of services, tasks and nodes, books, recount, leader changes (reference orchestration 8.3, 8.4; scenarios
77 and 78)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from swarmd.allocator.attachments import (
    networks_of_template,
    release_all,
    with_addresses,
    with_attachments,
    with_virtual_ips,
)
from swarmd.allocator.books import Books, SubnetUsage, holdings_of, rebuilt, recounted, usage_of
from swarmd.allocator.networks import allocated
from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, ResourceExhausted
from swarmd.model import (
    ContainerSpec,
    Driver,
    Endpoint,
    EndpointMode,
    EndpointSpec,
    IPAMConfig,
    IPAMOptions,
    Network,
    NetworkAttachment,
    NetworkAttachmentConfig,
    NetworkDefaults,
    NetworkSpec,
    Node,
    PortConfig,
    PublishMode,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)


def a_network(id: str, *subnets: str, **more: Any) -> Network:
    configs = tuple(IPAMConfig(subnet=subnet) for subnet in subnets)
    return allocated(id, NetworkSpec(name=id, ipam=IPAMOptions(configs=configs), **more), [], NetworkDefaults())


def to(*targets: str, addresses: tuple[str, ...] = ()) -> tuple[NetworkAttachmentConfig, ...]:
    return tuple(NetworkAttachmentConfig(target=target, addresses=addresses) for target in targets)


def a_service(id: str, *targets: str, mode: EndpointMode = EndpointMode.VIP) -> Service:
    task = TaskSpec(container=ContainerSpec(image="a"), networks=to(*targets))
    return Service(id=id, spec=ServiceSpec(name=id, task=task, endpoint=EndpointSpec(mode=mode)))


def a_task(id: str, **more: Any) -> Task:
    return Task(id=id, spec=TaskSpec(container=ContainerSpec(image="a")), **more)


A, B = a_network("a", "192.0.2.0/28"), a_network("b", "198.51.100.0/28")
PREFIXES = {"a": "192.0.2", "b": "198.51.100"}


def test_a_service_keeps_its_address_and_gives_back_what_it_left() -> None:
    books = Books([A, B])
    first = with_virtual_ips(books, a_service("s", "a"), "")
    assert first.endpoint is not None
    assert [(vip.network_id, vip.addr) for vip in first.endpoint.virtual_ips] == [("a", "192.0.2.2/28")]
    both = with_virtual_ips(books, replace(first, spec=a_service("s", "b", "a").spec), "")
    assert both.endpoint is not None
    assert {vip.network_id: vip.addr for vip in both.endpoint.virtual_ips} == {
        "a": "192.0.2.2/28",
        "b": "198.51.100.2/28",
    }
    assert with_virtual_ips(books, both, "") is both
    none = with_virtual_ips(books, replace(both, spec=a_service("s", "a", mode=EndpointMode.DNSRR).spec), "")
    assert none.endpoint is None
    assert books.differences([none]) == ()
    assert [usage.used for id in "ab" for usage in books.usage(id)] == [0, 0]


def test_who_publishes_through_the_ingress_network_is_in_it_first() -> None:
    published = Endpoint(ports=(PortConfig(target_port=80, published_port=80),))
    on_host = Endpoint(ports=(PortConfig(target_port=80, publish_mode=PublishMode.HOST),))
    assert networks_of_template(to("a"), published, "in") == to("in", "a")
    assert networks_of_template(to("a", "a"), on_host, "in") == to("a")
    assert networks_of_template((), published, "") == ()


def test_a_task_has_one_address_in_each_network_and_is_filled_once() -> None:
    books = Books([A, B, a_network("c", "192.0.3.0/24", "2001:db8::/64", ipv6_enabled=True)])
    task = with_addresses(books, a_task("t"), to("a", "b", "c"))
    assert [attachment.addresses for attachment in task.networks] == [
        ("192.0.2.2/28",),
        ("198.51.100.2/28",),
        ("192.0.3.2/24", "2001:db8::2/64"),
    ]
    assert with_addresses(books, task, to("a")) is task
    assert books.differences([task]) == ()


def test_preferred_addresses_are_had_or_refused_and_a_failure_takes_nothing() -> None:
    books = Books([A, B])
    config = to("a", addresses=("192.0.2.9",))
    task = with_addresses(books, a_task("t"), config)
    assert task.networks[0].addresses == ("192.0.2.9/28",)
    with pytest.raises(AlreadyExists, match=r"192\.0\.2\.9 is in use"):
        with_addresses(books, a_task("u"), (*to("b"), *config))
    with pytest.raises(Invalid, match="lies in no subnet"):
        with_addresses(books, a_task("u"), (*to("b"), *to("a", addresses=("203.0.113.1",))))
    with pytest.raises(FailedPrecondition, match="gives no addresses"):
        with_addresses(books, a_task("u"), to("b", "gone"))
    assert books.differences([task]) == ()


def test_a_full_network_says_so_until_something_is_freed() -> None:
    books, tasks = Books([A]), []
    for number in range(13):
        tasks.append(with_addresses(books, a_task(f"t{number}"), to("a")))
    with pytest.raises(ResourceExhausted, match="could not find an available IP"):
        with_addresses(books, a_task("late"), to("a"))
    assert books.usage("a") == (SubnetUsage(subnet="192.0.2.0/28", used=13, total=13),)
    assert release_all(books, tasks[4]) == 1
    assert release_all(books, tasks[4]) == 0
    late = with_addresses(books, a_task("late"), to("a"))
    assert late.networks == tasks[4].networks


@pytest.mark.parametrize(("used", "is_scarce"), [(10, False), (11, True)])
def test_a_warning_is_due_at_four_fifths(used: int, is_scarce: bool) -> None:
    addresses = tuple(f"192.0.2.{2 + number}/28" for number in range(used))
    task = a_task("t", networks=(NetworkAttachment(network_id="a", addresses=addresses),))
    (usage,) = usage_of(A, holdings_of(task))
    assert (usage.used, usage.total, usage.is_scarce) == (used, 13, is_scarce)


def test_a_node_has_an_address_where_its_tasks_are_and_nowhere_else() -> None:
    local = allocated("l", NetworkSpec(name="l", driver_config=Driver(name="macvlan")), [], NetworkDefaults())
    books = Books([A, B, local])
    node = with_attachments(books, Node(id="n"), {"a", "b"})
    assert [attachment.network_id for attachment in node.attachments] == ["a", "b"]
    kept = with_attachments(books, node, {"b"})
    assert kept.attachments == node.attachments[1:]
    assert with_attachments(books, kept, {"b"}) is kept
    assert books.differences([kept]) == ()
    with pytest.raises(FailedPrecondition):
        with_attachments(books, kept, {"a", "b", "l"})
    assert books.differences([kept]) == ()


def test_ended_tasks_hold_nothing_and_a_network_takes_its_addresses_along() -> None:
    books = Books([A])
    task = with_addresses(books, a_task("t"), to("a"))
    ended = replace(task, status=TaskStatus(state=TaskState.FAILED))
    assert recounted([ended]) == ({}, ())
    assert len(books.differences([ended])) == 1
    assert release_all(books, ended) == 1
    assert books.differences([ended]) == ()
    with_addresses(books, a_task("u"), to("a"))
    books.close("a")
    assert books.differences([]) == ()


def test_a_new_reign_gives_nothing_that_is_in_use_whatever_comes_first() -> None:
    """Scenario 77: books are rebuilt of everything before anything is given."""
    books = Books([A])
    holders = [with_addresses(books, a_task(f"t{number}"), to("a")) for number in range(5)]
    service = with_virtual_ips(books, a_service("s", "a"), "")
    again, refused = rebuilt([A], [*reversed(holders), a_service("bare"), service])
    assert refused == ()
    new = [with_addresses(again, a_task(f"u{number}"), to("a")) for number in range(7)]
    _, doubles = recounted([*holders, service, *new])
    assert doubles == ()
    assert again.differences([*holders, service, *new]) == ()


def test_what_two_objects_claim_is_found_and_the_second_must_change() -> None:
    books = Books([A])
    one = with_addresses(books, a_task("one"), to("a"))
    two = a_task("two", networks=one.networks)
    assert recounted([one, two])[1] == ("192.0.2.2/28 of network a: task one and task two",)
    again, refused = rebuilt([A], [one, two])
    assert [(holding.holder, reason) for holding, reason in refused] == [
        ("task two", "task two: address 192.0.2.2 is in use")
    ]
    assert not again.release(refused[0][0]), "what is another's is not given back"
    assert again.differences([one, two]) != ()


class Addresses(RuleBasedStateMachine):
    """Services, tasks and nodes come, change and go, and so do leaders. After each step, books equal a recount."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books([A, B])
        self.objects: dict[str, Service | Task | Node] = {}
        self.count = 0

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    @rule(into=st.sets(st.sampled_from("ab")), is_vip=st.booleans(), seed=st.integers(0, 99))
    def put_service(self, into: set[str], is_vip: bool, seed: int) -> None:
        mode = EndpointMode.VIP if is_vip else EndpointMode.DNSRR
        services = [object for object in self.objects.values() if isinstance(object, Service)]
        old = random.Random(seed).choice([*services, None])
        wanted = a_service(old.id if old else self.new("service"), *sorted(into), mode=mode)
        service = replace(wanted, endpoint=old.endpoint) if old else wanted
        try:
            self.objects[service.id] = with_virtual_ips(self.books, service, "")
        except ResourceExhausted:
            return

    @rule(into=st.sets(st.sampled_from("ab"), min_size=1), last=st.none() | st.integers(0, 15))
    def add_task(self, into: set[str], last: int | None) -> None:
        configs = to(*sorted(into))
        if last is not None:
            first = configs[0].target
            configs = (*to(first, addresses=(f"{PREFIXES[first]}.{last}",)), *configs[1:])
        try:
            task = with_addresses(self.books, a_task(self.new("task")), configs)
        except (ResourceExhausted, AlreadyExists, Invalid):
            return
        self.objects[task.id] = task

    @rule(into=st.sets(st.sampled_from("ab")), number=st.integers(0, 3))
    def put_node(self, into: set[str], number: int) -> None:
        node = self.objects.get(f"node-{number}", Node(id=f"node-{number}"))
        assert isinstance(node, Node)
        try:
            self.objects[node.id] = with_attachments(self.books, node, into)
        except ResourceExhausted:
            return

    @rule(seed=st.integers(0, 99))
    def end_a_task(self, seed: int) -> None:
        tasks = [object for object in self.objects.values() if isinstance(object, Task)]
        if tasks:
            task = random.Random(seed).choice(tasks)
            release_all(self.books, task)
            self.objects[task.id] = replace(task, status=TaskStatus(state=TaskState.COMPLETE))

    @rule(seed=st.integers(0, 99))
    def remove(self, seed: int) -> None:
        if self.objects:
            id = random.Random(seed).choice(sorted(self.objects))
            release_all(self.books, self.objects.pop(id))

    @rule(seed=st.integers(0, 99))
    def change_leaders(self, seed: int) -> None:
        objects = list(self.objects.values())
        random.Random(seed).shuffle(objects)
        self.books, refused = rebuilt([B, A], objects)
        assert refused == ()

    @invariant()
    def nothing_leaks(self) -> None:
        assert recounted(self.objects.values())[1] == ()
        assert self.books.differences(self.objects.values()) == ()


Addresses.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAddresses = Addresses.TestCase
