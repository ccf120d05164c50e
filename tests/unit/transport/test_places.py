"""Who may shake hands, and who may stay: nobody waits for those who dawdle or gather in another network."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import ResourceExhausted
from swarmd.transport.places import ANONYMOUS_RETRY_S, ConnectionPlaces, HandshakePlaces, network_of


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_network_is_an_address_or_a_64(host: str, network: str) -> None:
    assert network_of(host) == network


async def test_one_network_holds_up_itself_alone(autojump_clock: MockClock) -> None:
    places = HandshakePlaces(in_all=10, of_a_network=3)
    inside: list[str] = []

    async def dawdle(host: str, seconds: float) -> None:
        async with places.one(host):
            inside.append(host)
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(dawdle, f"2001:db8::{number:x}", 5)
        await trio.sleep(1)
        assert len(inside) == 3
        nursery.start_soon(dawdle, "192.0.2.1", 0)
        await trio.sleep(0.1)
        assert inside[-1] == "192.0.2.1"
    assert len(inside) == 21, "all of them had their turn"
    assert places._networks == places._users == {}, "nothing is remembered of who is gone"


async def test_in_all_there_are_so_many(autojump_clock: MockClock) -> None:
    places = HandshakePlaces(in_all=4, of_a_network=3)
    taken = 0

    async def take(host: str) -> None:
        nonlocal taken
        async with places.one(host):
            taken += 1
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(take, f"192.0.2.{number % 3}")
        await trio.sleep(1)
        assert taken == 4


def test_a_node_and_a_network_have_so_many_connections_and_no_more() -> None:
    places = ConnectionPlaces(of_a_node=2, anonymous_of_a_network=3, anonymous_in_all=100)
    of_the_node = [places.take("n1", "192.0.2.1") for _ in range(2)]
    with pytest.raises(ResourceExhausted, match="node n1 has 2 connections here already") as refused:
        places.take("n1", "192.0.2.99")
    assert refused.value.retry_after_s is None
    places.take("n2", "192.0.2.1")
    of_a_network = [places.take("", f"2001:db8::{number}") for number in range(3)]
    with pytest.raises(ResourceExhausted, match="your network has 3 connections") as refused:
        places.take("", "2001:db8::ffff")
    assert refused.value.retry_after_s == ANONYMOUS_RETRY_S, "a joiner comes again by itself"
    places.take("", "2001:db8:0:1::1")
    of_the_node[0]()
    of_a_network[0]()
    places.take("n1", "192.0.2.1")
    places.take("", "2001:db8::ffff")


def test_who_has_no_certificate_never_fills_everything() -> None:
    places = ConnectionPlaces(anonymous_in_all=10)
    taken = [places.take("", f"192.0.2.{number}") for number in range(10)]
    with pytest.raises(ResourceExhausted, match="10 connections without a certificate") as refused:
        places.take("", "198.51.100.1")
    assert refused.value.retry_after_s == ANONYMOUS_RETRY_S
    places.take("n1", "198.51.100.1")
    for give_back in taken:
        give_back()
    assert places._networks == {}
    assert places._anonymous == 0
