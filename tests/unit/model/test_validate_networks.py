"""Address pools: what is refused, with which field."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.errors import Invalid
from swarmd.model import NetworkDefaults
from swarmd.model.validate_networks import check_network_defaults


def test_what_subnets_can_come_from_passes() -> None:
    check_network_defaults(NetworkDefaults(), "$.networks")
    pools = ("10.0.0.0/8", "fd00::/32")
    check_network_defaults(NetworkDefaults(default_address_pools=pools, subnet_size=29, vxlan_port=1024), "$.networks")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"default_address_pools": ()}, "default_address_pools"),
        ({"default_address_pools": ("10.0.0.0/8",) * 65}, "default_address_pools"),
        ({"default_address_pools": ("10.0.0.1/8",)}, "default_address_pools[0]"),
        ({"default_address_pools": ("10.0.0.0/8", "x")}, "default_address_pools[1]"),
        ({"default_address_pools": ("10.0.0.0/8", "10.1.0.0/16")}, "default_address_pools[1]"),
        ({"default_address_pools": ("10.0.0.0/24",)}, "subnet_size"),
        ({"subnet_size": 30}, "subnet_size"),
        ({"vxlan_port": 1023}, "vxlan_port"),
        ({"vxlan_port": 65536}, "vxlan_port"),
    ],
)
def test_what_not_is_told_with_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_network_defaults(NetworkDefaults(**fields), "$.networks")
    assert raised.value.field == f"$.networks.{field}"
