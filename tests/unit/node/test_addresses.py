from __future__ import annotations

import pytest

from swarmd.node import addresses
from swarmd.node.config import Config, Endpoint


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Peer -> the local end of the route to it."""
    table = {"192.0.2.1": "10.0.0.5", "10.9.0.1": "10.9.0.5", "127.0.0.1": "127.0.0.1"}
    monkeypatch.setattr(addresses, "_source_towards", table.get)
    return table


@pytest.mark.parametrize(
    ("config", "peer", "expected"),
    [
        (Config(), None, ("10.0.0.5:4242", "127.0.0.1:4242")),
        (Config(), Endpoint("10.9.0.1", 1), ("10.9.0.5:4242",)),
        (Config(), Endpoint("127.0.0.1", 1), ("127.0.0.1:4242",)),
        (Config(), Endpoint("no.route", 1), ("127.0.0.1:4242",)),
        (Config(listen=Endpoint("10.1.1.1", 4242)), Endpoint("10.9.0.1", 1), ("10.1.1.1:4242",)),
        (Config(listen=Endpoint("::", 4242)), Endpoint("10.9.0.1", 1), ("10.9.0.5:4242",)),
        (Config(listen=Endpoint("fd00::1", 4242)), None, ("[fd00::1]:4242",)),
        (Config(advertise=(Endpoint("a.example", 1), Endpoint("10.1.1.1", 2))), None, ("a.example:1", "10.1.1.1:2")),
    ],
    ids=["new swarm", "route", "loopback", "no route", "one interface", "wildcard", "v6", "asked for"],
)
def test_what_is_announced(config: Config, peer: Endpoint | None, expected: tuple[str, ...]) -> None:
    assert addresses.advertised(config, 4242, peer) == expected


def test_without_any_route_loopback_is_left(routes: dict[str, str]) -> None:
    routes.clear()
    assert addresses.advertised(Config(), 4242, None) == ("127.0.0.1:4242",)
