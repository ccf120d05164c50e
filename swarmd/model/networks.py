"""Networks: what users ask for, and what was made of it."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from swarmd.model.common import Driver, IndexEntry, Meta


class AddressFamily(IntEnum):
    """Which addresses an IPAM configuration is about."""

    UNKNOWN = 0
    IPV4 = 4
    IPV6 = 6


class IPAMConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One subnet (CIDR), the range within it that addresses come from, its gateway, and what is reserved by name."""

    family: AddressFamily = AddressFamily.UNKNOWN
    subnet: str = ""
    range: str = ""
    gateway: str = ""
    reserved: dict[str, str] = {}


class IPAMOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Who gives addresses, and from which subnets."""

    driver: Driver | None = None
    configs: tuple[IPAMConfig, ...] = ()


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a network should be. `config_from` names a network of the node whose settings are used."""

    name: str
    labels: dict[str, str] = {}
    indices: tuple[IndexEntry, ...] = ()
    driver_config: Driver | None = None
    ipv6_enabled: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    ipam: IPAMOptions | None = None
    config_from: str = ""


class Network(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A network. `driver_state` and `ipam` are what the allocator made of the spec."""

    id: str
    meta: Meta = Meta()
    spec: NetworkSpec
    driver_state: Driver | None = None
    ipam: IPAMOptions | None = None
    pending_delete: bool = False
