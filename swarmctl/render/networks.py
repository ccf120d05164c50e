"""Networks: the list, the summary with how full their subnets are, and plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from swarmctl.render.layout import TASK_GAP, SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import instant
from swarmd.model import IPAMConfig
from swarmd.wire.networks import NetworkView, SubnetUse


def network_document(view: NetworkView) -> Any:
    """A network as plain data."""
    return plain(view.network) | {
        "usage": [plain(usage) for usage in view.usage],
        "services": view.services,
        "warnings": list(view.warnings),
    }


def network_list(views: Sequence[NetworkView], *, wide: bool) -> str:
    """`network ls`, in the order given."""
    header = ["ID", "Name", "Driver", "Subnet"] + (["Addresses", "Services", "Ingress"] if wide else [])
    rows = []
    for view in views:
        network = view.network
        row = [network.id, network.spec.name, _driver(view), ",".join(use.subnet for use in view.usage)]
        if wide:
            row += [
                ",".join(f"{use.used}/{use.total}" for use in view.usage),
                str(view.services),
                "yes" if network.spec.ingress else "",
            ]
        rows.append(row)
    return table(header, rows, gap=TASK_GAP)


def network_summary(view: NetworkView) -> str:
    """`network inspect`."""
    return summary(_lines(view)) + "".join(f"Warning: {text}\n" for text in view.warnings)


def _driver(view: NetworkView) -> str:
    return view.network.driver_state.name if view.network.driver_state is not None else ""


def _lines(view: NetworkView) -> Iterator[SummaryLine]:
    network, spec = view.network, view.network.spec
    yield "ID", network.id
    yield "Name", spec.name
    yield "Created", instant(network.meta.created_at) or ""
    if spec.labels:
        yield "Labels", None
        yield from ((f"  {key}", spec.labels[key]) for key in sorted(spec.labels))
    for name, is_set in (
        ("IPv6", spec.ipv6_enabled),
        ("Internal", spec.internal),
        ("Attachable", spec.attachable),
        ("Ingress", spec.ingress),
    ):
        yield name, "yes" if is_set else ""
    if network.driver_state is not None:
        yield "Driver", None
        yield "  Name", network.driver_state.name
        options = network.driver_state.options
        yield from ((f"  {key}", options[key]) for key in sorted(options))
    uses = {use.subnet: use for use in view.usage}
    for config in network.ipam.configs if network.ipam is not None else ():
        yield from _subnet(config, uses.get(config.subnet))
    yield "Services", str(view.services)


def _subnet(config: IPAMConfig, use: SubnetUse | None) -> Iterator[SummaryLine]:
    yield "Subnet", config.subnet
    yield "  Range", config.range
    yield "  Gateway", config.gateway
    if config.reserved:
        yield "  Reserved", ", ".join(f"{name}={config.reserved[name]}" for name in sorted(config.reserved))
    if use is not None:
        yield "  In use", f"{use.used} of {use.total} addresses"
