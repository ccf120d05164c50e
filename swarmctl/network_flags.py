"""The options that describe a network, in Docker's spelling (SwarmKit's where it has another)."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Any

import msgspec
import typer

from swarmctl.values import parse_pairs
from swarmd.errors import Invalid
from swarmd.model import Driver, IPAMConfig, IPAMOptions, NetworkSpec

Texts = list[str] | None


class NetworkFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What a new network is to be."""

    driver: Annotated[str | None, typer.Option("--driver", "-d", metavar="NAME", help="Default: overlay.")] = None
    opt: Annotated[Texts, typer.Option("--opt", "--opts", metavar="KEY=VALUE", help="For the driver.")] = None
    label: Annotated[Texts, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")] = None
    subnet: Annotated[
        Texts, typer.Option("--subnet", metavar="CIDR", help="Default: one from the swarm's address pools.")
    ] = None
    gateway: Annotated[Texts, typer.Option("--gateway", metavar="IP", help="Of the subnet that it lies in.")] = None
    ip_range: Annotated[
        Texts, typer.Option("--ip-range", metavar="CIDR", help="Where addresses of its subnet are chosen from.")
    ] = None
    ipam_driver: Annotated[str | None, typer.Option("--ipam-driver", metavar="NAME", help="Only default.")] = None
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Addresses of IPv6 beside those of IPv4.")] = False
    internal: Annotated[bool, typer.Option("--internal", help="Nothing outside is reached.")] = False
    attachable: Annotated[bool, typer.Option("--attachable", help="Containers of one's own may join.")] = False
    ingress: Annotated[bool, typer.Option("--ingress", help="The one that published ports are reached by.")] = False


def network_spec(name: str, flags: NetworkFlags) -> NetworkSpec:
    """Raises `Invalid` naming the option that is not understood, or fits to no subnet."""
    options = parse_pairs(flags.opt or (), "--opt")
    driver = None
    if flags.driver or options:
        driver = Driver(name=flags.driver or "overlay", options=options)
    configs = _configs(flags)
    ipam = None
    if configs or flags.ipam_driver:
        ipam = IPAMOptions(driver=Driver(name=flags.ipam_driver) if flags.ipam_driver else None, configs=configs)
    return NetworkSpec(
        name=name,
        labels=parse_pairs(flags.label or (), "--label"),
        driver_config=driver,
        ipv6_enabled=flags.ipv6,
        internal=flags.internal,
        attachable=flags.attachable,
        ingress=flags.ingress,
        ipam=ipam,
    )


def _configs(flags: NetworkFlags) -> tuple[IPAMConfig, ...]:
    """Each gateway and range goes to the first subnet that contains it and has none yet. SwarmKit drops the others
    without a word."""
    subnets = [_parsed(ip_network, text, "--subnet", "192.0.2.0/24") for text in flags.subnet or ()]
    configs: list[dict[str, Any]] = [{"subnet": text} for text in flags.subnet or ()]
    for field, option, texts, example in (
        ("gateway", "--gateway", flags.gateway, "192.0.2.1"),
        ("range", "--ip-range", flags.ip_range, "192.0.2.128/25"),
    ):
        for text in texts or ():
            parse = ip_address if field == "gateway" else ip_interface
            address = _parsed(parse, text, option, example)
            inside = getattr(address, "ip", address)
            for subnet, config in zip(subnets, configs, strict=True):
                if inside in subnet and field not in config:
                    config[field] = text
                    break
            else:
                raise Invalid(f'{option}: "{text}" lies in no --subnet that has none yet', hint="--subnet CIDR")
    return tuple(IPAMConfig(**config) for config in configs)


def _parsed(parse: Any, text: str, option: str, example: str) -> Any:
    try:
        return parse(text, strict=False) if parse is ip_network else parse(text)
    except ValueError:
        raise Invalid(f'{option}: "{text}" is not understood', hint=f"like {example}") from None
