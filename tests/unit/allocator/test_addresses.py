"""Addresses of one subnet (reference orchestration 8.4)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from swarmd.allocator.addresses import AddressPool, first_fit, parse_address, usable
from swarmd.errors import AlreadyExists, Invalid, ResourceExhausted


def everything(pool: AddressPool) -> list[str]:
    return [pool.take() for _ in range(pool.total - pool.used)]


def test_neither_the_networks_own_nor_the_broadcast_nor_the_gateway_is_given() -> None:
    pool = AddressPool("192.0.2.0/29", "192.0.2.3", reserved=("192.0.2.5",))
    assert everything(pool) == [f"192.0.2.{n}/29" for n in (1, 2, 4, 6)]
    with pytest.raises(ResourceExhausted, match="could not find an available IP: all 4"):
        pool.take()


def test_a_freed_address_comes_last() -> None:
    pool = AddressPool("192.0.2.0/29", "192.0.2.1")
    first = pool.take()
    pool.free(parse_address(first))
    assert [pool.take() for _ in range(5)] == [f"192.0.2.{n}/29" for n in (3, 4, 5, 6, 2)]


@pytest.mark.parametrize(
    ("subnet", "count"), [("192.0.2.0/30", 2), ("192.0.2.0/31", 2), ("192.0.2.0/32", 1), ("2001:db8::/126", 3)]
)
def test_small_subnets_give_what_they_have(subnet: str, count: int) -> None:
    assert len(set(everything(AddressPool(subnet)))) == count


def test_a_range_bounds_what_is_chosen_and_not_what_is_asked_for() -> None:
    pool = AddressPool("192.0.2.0/24", "192.0.2.1", "192.0.2.128/30")
    assert pool.claim(parse_address("192.0.2.9")) == "192.0.2.9/24"
    assert (pool.used, pool.total) == (0, 4)
    assert everything(pool) == [f"192.0.2.{n}/24" for n in (128, 129, 130, 131)]
    pool.free(parse_address("192.0.2.9/24"))
    assert (pool.used, pool.total) == (4, 4)


def test_ipv6_has_more_than_can_be_counted_in_a_map() -> None:
    pool = AddressPool("2001:db8::/64", "2001:db8::1")
    assert [pool.take(), pool.take()] == ["2001:db8::2/64", "2001:db8::3/64"]
    assert pool.claim(parse_address("2001:db8::ffff:ffff:ffff:ffff")).endswith("/64")


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        ("192.0.3.1", Invalid, "none that"),
        ("192.0.2.0", Invalid, "none that"),
        ("192.0.2.7", Invalid, "none that"),
        ("2001:db8::1", Invalid, "none that"),
        ("192.0.2.1/24", Invalid, "gateway"),
        ("192.0.2.2", AlreadyExists, "in use"),
        ("nonsense", Invalid, "not an address"),
    ],
)
def test_what_cannot_be_had_says_why_and_takes_nothing(address: str, error: type[Exception], text: str) -> None:
    pool = AddressPool("192.0.2.0/29", "192.0.2.1")
    pool.take()
    with pytest.raises(error, match=text):
        pool.claim(parse_address(address))
    assert pool.used == 1


def test_freeing_what_nobody_has_changes_nothing() -> None:
    pool = AddressPool("192.0.2.0/29")
    pool.free(parse_address("192.0.2.4"))
    assert (pool.used, pool.taken()) == (0, frozenset())


def test_the_gateway_is_the_first_that_is_wanted() -> None:
    subnet = ip_network("192.0.2.0/30")
    assert usable(subnet) == (1, 2)
    assert first_fit(subnet) == "192.0.2.1"
    assert first_fit(subnet, lambda address: address != parse_address("192.0.2.1")) == "192.0.2.2"
    with pytest.raises(ResourceExhausted):
        first_fit(subnet, lambda _: False)
