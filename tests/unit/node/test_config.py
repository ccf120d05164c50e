from __future__ import annotations

import pytest

from swarmd.errors import Invalid
from swarmd.node.config import Config, Endpoint, check, parse_endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.5:4242", Endpoint("10.0.0.5", 4242)),
        ("10.0.0.5", Endpoint("10.0.0.5", 7)),
        ("[fd00::1]:1", Endpoint("fd00::1", 1)),
        ("[fd00::1]", Endpoint("fd00::1", 7)),
        ("manager.example:0", Endpoint("manager.example", 0)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: Endpoint) -> None:
    endpoint = parse_endpoint(text, flag="--x", default_port=7)
    assert endpoint == expected
    assert parse_endpoint(str(endpoint), flag="--x") == expected


@pytest.mark.parametrize("text", ["", ":", ":4242", "a:b", "a:70000", "fd00::1:4242", "a b:1", "http://a:1", "[x]:1"])
def test_what_is_no_address_names_the_flag_and_how_to_write_one(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_endpoint(text, flag="--join-addr", default_port=7)
    assert caught.value.field == "--join-addr"
    assert caught.value.hint


def test_a_port_must_be_given_where_there_is_no_default() -> None:
    with pytest.raises(Invalid):
        parse_endpoint("10.0.0.5", flag="--advertise-remote-api")


@pytest.mark.parametrize(
    "config",
    [
        Config(executor="podman"),
        Config(hostname=""),
        Config(hostname="a" * 64),
        Config(heartbeat_tick=0),
        Config(heartbeat_tick=4, election_tick=10),
        Config(election_tick=1001),
        Config(join_token="SWMTKN-1-x"),
        Config(advertise=(Endpoint("::", 1),)),
        Config(advertise=(Endpoint("10.0.0.1", 0),)),
    ],
)
def test_settings_that_no_daemon_could_run_with_are_refused(config: Config) -> None:
    with pytest.raises(Invalid):
        check(config)


def test_the_defaults_are_fine() -> None:
    check(Config())
    check(Config(hostname="a", heartbeat_tick=3, election_tick=9))
