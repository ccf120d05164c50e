"""The validity of a service's endpoint: nothing, or `Invalid` with the field (reference api-and-cli 1.5)."""

from __future__ import annotations

from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import check_text
from swarmd.model.endpoints import EndpointMode, EndpointSpec, PortConfig, PublishMode

PORT_MAX: Final = 65_535
PORTS_MAX: Final = 1_024
PORT_NAME_BYTES_MAX: Final = 64


def check_endpoint(spec: EndpointSpec, path: str) -> None:
    """Raise `Invalid` unless its ports could be published."""
    if len(spec.ports) > PORTS_MAX:
        raise Invalid(f"there are at most {PORTS_MAX} ports, not {len(spec.ports)}", field=f"{path}.ports")
    seen: set[tuple[int, int]] = set()
    for position, port in enumerate(spec.ports):
        field = f"{path}.ports[{position}]"
        _check_port(port, field)
        if spec.mode is EndpointMode.DNSRR and port.publish_mode is PublishMode.INGRESS:
            raise Invalid(
                "port published with ingress mode can't be used with dnsrr mode", field=field, hint="mode=host, or vip"
            )
        if port.published_port:
            key = (int(port.protocol), port.published_port)
            if key in seen:
                raise Invalid("duplicate published ports provided", field=f"{field}.published_port")
            seen.add(key)


def _check_port(port: PortConfig, field: str) -> None:
    check_text(port.name, f"{field}.name", PORT_NAME_BYTES_MAX)
    if not 1 <= port.target_port <= PORT_MAX:
        raise Invalid(f"a port is 1 to {PORT_MAX}, not {port.target_port}", field=f"{field}.target_port")
    if not 0 <= port.published_port <= PORT_MAX:
        raise Invalid(
            f"a port is 1 to {PORT_MAX}, not {port.published_port}", field=f"{field}.published_port", hint="0: any"
        )
