"""Published ports, in short and by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from swarmctl.render.layout import SummaryLine
from swarmd.model import EndpointMode, PortConfig, PublishMode, Service


def ports_of(service: Service) -> Sequence[PortConfig]:
    """With the numbers that were set aside, once they are."""
    return (service.endpoint.ports if service.endpoint is not None else ()) or service.spec.endpoint.ports


def port_in_words(port: PortConfig) -> str:
    """`*:8080->80/tcp`; without a number of its own `*->80/tcp`; `host:8080->80/tcp` where it is on the task's node."""
    where = "*" if port.publish_mode is PublishMode.INGRESS else "host"
    number = f":{port.published_port}" if port.published_port else ""
    return f"{where}{number}->{port.target_port}/{port.protocol.name.lower()}"


def ports_in_short(ports: Iterable[PortConfig]) -> str:
    """For a column. Ranges are drawn together."""
    runs: list[list[PortConfig]] = []
    for port in sorted(
        ports, key=lambda port: (port.publish_mode, port.protocol, port.published_port, port.target_port)
    ):
        if runs and _follows(runs[-1][-1], port):
            runs[-1].append(port)
        else:
            runs.append([port])
    return ", ".join(_run(run[0], run[-1]) for run in runs)


def endpoint_lines(service: Service) -> Iterator[SummaryLine]:
    """Of an inspected service, where there is anything to say."""
    ports, spec, endpoint = ports_of(service), service.spec.endpoint, service.endpoint
    addresses = endpoint.virtual_ips if endpoint is not None else ()
    if ports or addresses or spec.mode is not EndpointMode.VIP:
        yield "Endpoint", None
        yield "  Mode", spec.mode.name.lower()
        for port in ports:
            name = f" ({port.name})" if port.name else ""
            yield "  Port", port_in_words(port) + name
        for address in addresses:
            yield "  Address", f"{address.addr} in {address.network_id}"


def _follows(before: PortConfig, port: PortConfig) -> bool:
    return (
        (before.publish_mode, before.protocol) == (port.publish_mode, port.protocol)
        and 0 < before.published_port == port.published_port - 1
        and before.target_port == port.target_port - 1
    )


def _run(first: PortConfig, last: PortConfig) -> str:
    if first is last:
        return port_in_words(first)
    where = "*" if first.publish_mode is PublishMode.INGRESS else "host"
    published, targets = (f"{first.published_port}-{last.published_port}", f"{first.target_port}-{last.target_port}")
    return f"{where}:{published}->{targets}/{first.protocol.name.lower()}"
