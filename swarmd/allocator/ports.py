"""Which ports a service gets (reference orchestration 8.5; SwarmKit `manager/allocator/portallocator.go`).

They are set aside in the transaction that makes or changes the service, and are free again with the one that removes
it: what is taken is what services say, and the index `service.port` lets a transaction rely on a port being free. There
is no book beside the state that could leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from swarmd.errors import AlreadyExists, ResourceExhausted
from swarmd.model import Endpoint, EndpointSpec, PortConfig, PublishMode, Service
from swarmd.state.keys import port_key
from swarmd.state.selectors import ByPublishedPort
from swarmd.state.transaction import Transaction

DYNAMIC_FIRST: Final = 30_000
DYNAMIC_LAST: Final = 32_767
"""Where the swarm chooses a number from."""

_NOTHING: Final = EndpointSpec()
_Identity = tuple[str, int, int]
"""(name, protocol, target port): a port that keeps these keeps its number."""


def with_ports(tx: Transaction, service: Service) -> Service:
    """The service with the endpoint that its spec asks for; the service itself if it has that already.

    Its virtual addresses are not touched: they belong to the networks it is in.
    Numbers that were chosen before stay as long as their port's name, protocol and target do, whatever else changes.
    Raises `AlreadyExists` for a port that another service has, naming both; `ResourceExhausted` if no number is left.
    """
    spec = service.spec.endpoint
    if is_settled(service):
        return service
    virtual_ips = service.endpoint.virtual_ips if service.endpoint is not None else ()
    if spec == _NOTHING:
        return replace(service, endpoint=Endpoint(virtual_ips=virtual_ips) if virtual_ips else None)
    endpoint = Endpoint(spec=spec, ports=_resolved(tx, service), virtual_ips=virtual_ips)
    return replace(service, endpoint=endpoint)


def is_settled(service: Service) -> bool:
    """Whether everything that the spec's endpoint asks for is set aside."""
    given = service.endpoint.spec if service.endpoint is not None else _NOTHING
    return given == service.spec.endpoint


def _resolved(tx: Transaction, service: Service) -> tuple[PortConfig, ...]:
    wanted = service.spec.endpoint.ports
    for port in wanted:
        _check_free(tx, service, port)
    taken = {port_key(port) for port in wanted}
    kept = _kept(service, taken)
    resolved: list[PortConfig] = []
    for port in wanted:
        if not port.published_port and port.publish_mode is PublishMode.INGRESS:
            port = _numbered(tx, service, port, taken, kept)
            taken.add(port_key(port))
        resolved.append(port)
    return tuple(resolved)


def _kept(service: Service, taken: set[str]) -> dict[_Identity, list[PortConfig]]:
    """Numbers that were chosen for the service before, by what the ports are."""
    kept: dict[_Identity, list[PortConfig]] = {}
    if service.endpoint is not None:
        for asked, got in zip(service.endpoint.spec.ports, service.endpoint.ports, strict=True):
            if not asked.published_port and got.published_port and port_key(got) not in taken:
                kept.setdefault(_identity(asked), []).append(got)
    return kept


def _identity(port: PortConfig) -> _Identity:
    return port.name, int(port.protocol), port.target_port


def _numbered(
    tx: Transaction, service: Service, port: PortConfig, taken: set[str], kept: dict[_Identity, list[PortConfig]]
) -> PortConfig:
    if earlier := kept.get(_identity(port)):
        return replace(port, published_port=earlier.pop(0).published_port)
    reserved = {port_key(got) for ports in kept.values() for got in ports}
    for number in range(DYNAMIC_FIRST, DYNAMIC_LAST + 1):
        candidate = replace(port, published_port=number)
        key = port_key(candidate)
        if key in taken or key in reserved or _holder(tx, service, candidate, unchecked=True) is not None:
            continue
        if _holder(tx, service, candidate, unchecked=False) is None:
            return candidate
    raise ResourceExhausted(
        f"no {port.protocol.name.lower()} port is left between {DYNAMIC_FIRST} and {DYNAMIC_LAST}",
        field="$.endpoint.ports",
        hint="publish on a number of your own, or remove what is not needed",
    )


def _check_free(tx: Transaction, service: Service, port: PortConfig) -> None:
    if not port.published_port:
        return
    found = _holder(tx, service, port, unchecked=False)
    if found is not None:
        holder, how = found
        raise AlreadyExists(
            f"port '{port.published_port}' is already in use by service '{holder.spec.name}' ({holder.id})"
            f" as {how} port",
            field="$.endpoint.ports",
        )


def _holder(tx: Transaction, service: Service, port: PortConfig, *, unchecked: bool) -> tuple[Service, str] | None:
    """Which other service is in the way, and with what. Two may have one host port: their tasks go to other nodes."""
    for key, how in _keys_in_the_way(port):
        for holder in tx.find(Service, ByPublishedPort(key), unchecked=unchecked):
            if holder.id != service.id:
                return holder, how
    return None


def _keys_in_the_way(port: PortConfig) -> Iterator[tuple[str, str]]:
    yield port_key(port, is_host=False), "an ingress"
    if port.publish_mode is PublishMode.INGRESS:
        yield port_key(port, is_host=True), "a host-published"
