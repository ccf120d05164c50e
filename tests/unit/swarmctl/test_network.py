"""`network` on the command line, against the real control API over the real state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmctl.network_flags import NetworkFlags, network_spec
from swarmd.errors import Invalid
from swarmd.model import Driver, IPAMConfig, IPAMOptions, NetworkSpec
from swarmd.state.features import KINDS, ORCHESTRATION, SECURITY
from tests.unit.manager.control_api.payload_world import PayloadWorld
from tests.unit.manager.local_store import EPOCH
from tests.unit.swarmctl.test_against_control_api import Swarm


class NetworkSwarm(Swarm):
    def __init__(self) -> None:
        self.world = PayloadWorld((KINDS, SECURITY, ORCHESTRATION))
        self.world.store.now = lambda: EPOCH  # type: ignore[method-assign]
        self.replies_lost = 0


@pytest.fixture
def swarm() -> NetworkSwarm:
    return NetworkSwarm()


def test_they_live_and_die(swarm: NetworkSwarm) -> None:
    made = swarm.run("network", "create", "front", "--subnet", "192.0.2.0/29", "-l", "team=web")
    assert made.code == 0, made.err
    id = made.out.strip()
    assert made.err.splitlines() == [
        "networks are given subnets and numbers; nodes do not carry traffic between each other yet"
    ]
    rows = [line.split() for line in swarm.run("network", "ls").out.splitlines()]
    assert (rows[0], rows[2]) == (["ID", "Name", "Driver", "Subnet"], [id, "front", "overlay", "192.0.2.0/29"])
    assert "0/5" in swarm.run("network", "ls", "-o", "wide").out
    shown = swarm.run("network", "inspect", "front").out
    for text in ("192.0.2.1", "0 of 5 addresses", "vxlanid_list", "4096", "team"):
        assert text in shown
    document = json.loads(swarm.run("network", "inspect", id[:8], "-o", "json").out)
    assert document["usage"] == [{"subnet": "192.0.2.0/29", "used": 0, "total": 5, "is_scarce": False}]
    assert swarm.run("network", "rm", "front").out == f"{id}\n"
    assert swarm.run("network", "ls", "-q").out == ""


def test_pools_are_the_clusters_settings(swarm: NetworkSwarm) -> None:
    options = ("--default-addr-pool", "192.0.2.0/24", "--default-addr-pool-mask-length", "28")
    changed = swarm.run("cluster", "update", *options)
    assert changed.code == 0, changed.err
    swarm.run("network", "create", "small")
    assert "192.0.2.0/28" in swarm.run("network", "ls").out
    refused = swarm.run("cluster", "update", "--default-addr-pool", "192.0.2.1/24")
    assert refused.code != 0
    assert "is not a pool" in refused.err
    assert swarm.run("cluster", "update", "--default-addr-pool-mask-length", "x").code != 0


def test_a_refusal_is_one_line_and_its_hint(swarm: NetworkSwarm) -> None:
    refused = swarm.run("network", "create", "host")
    assert refused.code != 0
    assert "predefined" in refused.err
    assert "Traceback" not in refused.err
    assert "did you mean" not in swarm.run("network", "inspect", "gone").out


def test_every_option_reaches_the_spec() -> None:
    flags = NetworkFlags(
        driver="overlay",
        opt=["encrypted="],
        label=["a=b"],
        subnet=["192.0.2.0/24", "2001:db8::/64"],
        gateway=["2001:db8::1", "192.0.2.9"],
        ip_range=["192.0.2.128/25"],
        ipam_driver="default",
        ipv6=True,
        internal=True,
        attachable=True,
    )
    assert network_spec("n", flags) == NetworkSpec(
        name="n",
        labels={"a": "b"},
        driver_config=Driver(name="overlay", options={"encrypted": ""}),
        ipv6_enabled=True,
        internal=True,
        attachable=True,
        ipam=IPAMOptions(
            driver=Driver(name="default"),
            configs=(
                IPAMConfig(subnet="192.0.2.0/24", gateway="192.0.2.9", range="192.0.2.128/25"),
                IPAMConfig(subnet="2001:db8::/64", gateway="2001:db8::1"),
            ),
        ),
    )
    assert network_spec("n", NetworkFlags(ingress=True)) == NetworkSpec(name="n", ingress=True)


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"subnet": ["x"]}, "--subnet"),
        ({"gateway": ["192.0.2.1"]}, "--gateway"),
        ({"subnet": ["192.0.2.0/24"], "gateway": ["192.0.3.1"]}, "--gateway"),
        ({"subnet": ["192.0.2.0/24"], "gateway": ["192.0.2.1", "192.0.2.2"]}, "--gateway"),
        ({"subnet": ["192.0.2.0/24"], "ip_range": ["192.0.3.0/25"]}, "--ip-range"),
        ({"subnet": ["192.0.2.0/24"], "ip_range": ["y"]}, "--ip-range"),
        ({"opt": ["novalue"]}, "--opt"),
        ({"label": ["novalue"]}, "--label"),
    ],
)
def test_what_is_not_understood_names_its_option(fields: dict[str, Any], option: str) -> None:
    with pytest.raises(Invalid) as caught:
        network_spec("n", NetworkFlags(**fields))
    assert caught.value.message.startswith(option)
