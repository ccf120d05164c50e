"""How a service is reached: ports, virtual addresses, and the addresses of its tasks."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class EndpointMode(IntEnum):
    """Whether a service has one address of its own, or its name stands for its tasks' addresses."""

    VIP = 0
    DNSRR = 1


class PortProtocol(IntEnum):
    """What a port speaks."""

    TCP = 0
    UDP = 1
    SCTP = 2


class PublishMode(IntEnum):
    """Whether a port is reached on every node, or on those alone that run a task of the service."""

    INGRESS = 0
    HOST = 1


class PortConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A published port. `published_port` 0: the swarm chooses one (ingress), or the node does (host)."""

    name: str = ""
    protocol: PortProtocol = PortProtocol.TCP
    target_port: int
    published_port: int = 0
    publish_mode: PublishMode = PublishMode.INGRESS


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """How a service wants to be reached."""

    mode: EndpointMode = EndpointMode.VIP
    ports: tuple[PortConfig, ...] = ()


class VirtualIP(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A service's own address (CIDR) in one network."""

    network_id: str
    addr: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What was set aside for an `EndpointSpec`: its ports with their numbers, and virtual addresses."""

    spec: EndpointSpec = EndpointSpec()
    ports: tuple[PortConfig, ...] = ()
    virtual_ips: tuple[VirtualIP, ...] = ()


class NetworkAttachment(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A task or a node in a network: its addresses there (CIDR) and the names it is found by."""

    network_id: str
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    driver_attachment_options: dict[str, str] = {}
