"""The options of how a service is reached, of what it waits for and of where its output goes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text, Texts, edited, is_given, items_of
from swarmctl.values import malformed, parse_choice, parse_pairs
from swarmd.errors import Invalid
from swarmd.model import (
    DependencyCondition,
    Driver,
    EndpointMode,
    EndpointSpec,
    PortConfig,
    PortProtocol,
    PublishMode,
    ServiceDependency,
)

ENDPOINT_MODES: Final = {"vip": EndpointMode.VIP, "dnsrr": EndpointMode.DNSRR}
PROTOCOLS: Final = {"tcp": PortProtocol.TCP, "udp": PortProtocol.UDP, "sctp": PortProtocol.SCTP}
PUBLISH_MODES: Final = {"ingress": PublishMode.INGRESS, "host": PublishMode.HOST}
CONDITIONS: Final = {
    "started": DependencyCondition.STARTED,
    "healthy": DependencyCondition.HEALTHY,
    "completed": DependencyCondition.COMPLETED,
}
PORTS_AT_ONCE_MAX: Final = 1_000
"""Ports that one range may name."""

_SHORT = re.compile(r"(?:([0-9]{1,5})(?:-([0-9]{1,5}))?:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([A-Za-z]{1,8}))?")
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,63}):([0-9]{1,5})(?:/([A-Za-z]{1,8}))?(?::([0-9]{1,5})(?:/([A-Za-z]{1,8}))?)?")
_PORT_HINT: Final = "8080:80, 8080:80/udp, or published=8080,target=80,protocol=tcp,mode=ingress"
_TARGET = re.compile(r"([0-9]{1,5})(?:/([A-Za-z]{1,8}))?")


class EndpointFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Giving a list replaces it whole."""

    publish: Annotated[
        Texts, typer.Option("--publish", "-p", metavar="PORT", help=f"A port to publish: {_PORT_HINT}.")
    ] = None
    ports: Annotated[
        Texts,
        typer.Option("--ports", metavar="NAME:TARGET[:PORT]", help="The same as SwarmKit writes it; in host mode."),
    ] = None
    endpoint_mode: Annotated[
        Text, typer.Option("--endpoint-mode", metavar="MODE", help="vip (an address of its own) or dnsrr (its tasks').")
    ] = None
    depends_on: Annotated[
        Texts,
        typer.Option(
            "--depends-on", metavar="SERVICE[:HOW]", help="What must be started (default), healthy or completed first."
        ),
    ] = None
    log_driver: Annotated[
        Text, typer.Option("--log-driver", metavar="NAME", help="Where output goes; empty: as the swarm has it.")
    ] = None
    log_opt: Annotated[Texts, typer.Option("--log-opt", metavar="KEY=VALUE", help="One option of the log driver.")] = (
        None
    )


class EndpointEdits(msgspec.Struct, frozen=True, kw_only=True):
    """What `update` takes beside them."""

    publish_add: Annotated[Texts, typer.Option("--publish-add", metavar="PORT", help="One port more.")] = None
    publish_rm: Annotated[
        Texts, typer.Option("--publish-rm", metavar="TARGET[/PROTO]", help="No longer publish this port of the tasks.")
    ] = None


def changed_endpoint(spec: EndpointSpec, flags: EndpointFlags, edits: EndpointEdits) -> EndpointSpec:
    """`spec` with what was given. Raises `Invalid` naming the option."""
    gone = [_target(text) for text in edits.publish_rm or ()]
    added = [port for text in edits.publish_add or () for port in parse_ports(text, "--publish-add")]
    replaced = {(port.target_port, port.protocol, port.published_port) for port in added}
    whole = None
    if is_given(flags.publish) or is_given(flags.ports):
        whole = [port for text in items_of(flags.publish) for port in parse_ports(text, "--publish")]
        whole += [_named_port(text) for text in items_of(flags.ports)]
    ports = edited(
        spec.ports,
        whole=whole,
        add=added,
        drop=lambda port: (
            (port.target_port, port.protocol) in gone
            or (port.target_port, port.protocol, port.published_port) in replaced
        ),
    )
    mode = spec.mode
    if flags.endpoint_mode is not None:
        mode = parse_choice(flags.endpoint_mode, ENDPOINT_MODES, "--endpoint-mode")
    return EndpointSpec(mode=mode, ports=ports)


def parse_ports(text: str, option: str) -> tuple[PortConfig, ...]:
    """One port or a range, short or long. Raises `Invalid`."""
    if "=" in text:
        return (_long(text, option),)
    match = _SHORT.fullmatch(text)
    if match is None:
        raise malformed(text, option, _PORT_HINT)
    protocol = parse_choice(match[5] or "tcp", PROTOCOLS, option)
    targets = list(_range(match[3], match[4], text, option))
    published = list(_range(match[1], match[2], text, option)) if match[1] else [0] * len(targets)
    if len(published) != len(targets):
        raise Invalid(f'{option}: the ranges of "{text}" are not of the same length', hint="like 8080-8082:80-82")
    return tuple(
        PortConfig(target_port=target, published_port=number, protocol=protocol)
        for target, number in zip(targets, published, strict=True)
    )


def changed_dependencies(present: tuple[ServiceDependency, ...], flags: EndpointFlags) -> tuple[ServiceDependency, ...]:
    """What was given, else what there is. Raises `Invalid`."""
    if not is_given(flags.depends_on):
        return present
    return tuple(_dependency(text) for text in items_of(flags.depends_on))


def changed_log_driver(present: Driver | None, name: Text, options: Texts) -> Driver | None:
    """The driver with what was given; another driver begins without options. Raises `Invalid`."""
    if name == "" and not is_given(options):
        return None
    driver = present
    if name is not None and (present is None or present.name != name):
        driver = Driver(name=name)
    if is_given(options):
        if driver is None or not driver.name:
            raise Invalid("--log-opt: there is no log driver that it could be for", hint="--log-driver NAME")
        driver = replace(driver, options=parse_pairs(items_of(options), "--log-opt"))
    return driver


def _long(text: str, option: str) -> PortConfig:
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        key = {"src": "published", "dst": "target"}.get(key.lower(), key.lower())
        if not equals or key not in ("published", "target", "protocol", "mode", "name") or key in given:
            raise malformed(text, option, _PORT_HINT)
        given[key] = value
    if "target" not in given:
        raise Invalid(f'{option}: "{text}" does not say target=', hint=_PORT_HINT)
    changes: dict[str, Any] = {"target_port": _number(given["target"], text, option)}
    if "published" in given:
        changes["published_port"] = _number(given["published"], text, option)
    if "protocol" in given:
        changes["protocol"] = parse_choice(given["protocol"], PROTOCOLS, option)
    if "mode" in given:
        changes["publish_mode"] = parse_choice(given["mode"], PUBLISH_MODES, option)
    return PortConfig(name=given.get("name", ""), **changes)


def _named_port(text: str) -> PortConfig:
    """`name:target[/proto][:published[/proto]]`, both protocols the same (SwarmKit `flagparser/port.go`)."""
    match = _NAMED.fullmatch(text)
    if match is None or (match[3] and match[5] and match[3].lower() != match[5].lower()):
        raise malformed(text, "--ports", "NAME:TARGET[/PROTO][:PORT[/PROTO]]")
    return PortConfig(
        name=match[1],
        target_port=int(match[2]),
        published_port=int(match[4] or 0),
        protocol=parse_choice(match[3] or match[5] or "tcp", PROTOCOLS, "--ports"),
        publish_mode=PublishMode.HOST,
    )


def _range(first: str, last: str | None, text: str, option: str) -> Iterator[int]:
    low, high = int(first), int(last or first)
    if not 0 <= high - low < PORTS_AT_ONCE_MAX:
        raise malformed(text, option, f"a range goes up, over at most {PORTS_AT_ONCE_MAX} ports")
    return iter(range(low, high + 1))


def _target(text: str) -> tuple[int, PortProtocol]:
    """`80`, `80/udp`; also `8080:80`, of which the second counts."""
    match = _TARGET.fullmatch(text.rpartition(":")[2])
    if match is None:
        raise malformed(text, "--publish-rm", "the port of the tasks, like 80 or 53/udp")
    return int(match[1]), parse_choice(match[2] or "tcp", PROTOCOLS, "--publish-rm")


def _number(value: str, text: str, option: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", value) is None:
        raise malformed(text, option, _PORT_HINT)
    return int(value)


def _dependency(text: str) -> ServiceDependency:
    service, colon, condition = text.partition(":")
    if not service or (colon and not condition):
        raise malformed(text, "--depends-on", "SERVICE, SERVICE:healthy or SERVICE:completed")
    return ServiceDependency(
        service=service, condition=parse_choice(condition or "started", CONDITIONS, "--depends-on")
    )
