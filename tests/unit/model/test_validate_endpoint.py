"""Endpoints: what is refused, with which field."""

from __future__ import annotations

import pytest

from swarmd.errors import Invalid
from swarmd.model import EndpointMode, EndpointSpec, PortConfig, PortProtocol, PublishMode
from swarmd.model.validate_endpoint import check_endpoint


def port(target: int, published: int = 0, **more: object) -> PortConfig:
    return PortConfig(target_port=target, published_port=published, **more)  # type: ignore[arg-type]


def test_what_could_be_published_passes() -> None:
    check_endpoint(EndpointSpec(), "$")
    check_endpoint(EndpointSpec(ports=(port(80, 80), port(80, 80, protocol=PortProtocol.UDP), port(80), port(80))), "$")
    check_endpoint(EndpointSpec(mode=EndpointMode.DNSRR, ports=(port(80, publish_mode=PublishMode.HOST),)), "$")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (EndpointSpec(ports=(port(0),)), "$.ports[0].target_port"),
        (EndpointSpec(ports=(port(65536),)), "$.ports[0].target_port"),
        (EndpointSpec(ports=(port(80, -1),)), "$.ports[0].published_port"),
        (EndpointSpec(ports=(port(80, 65536),)), "$.ports[0].published_port"),
        (EndpointSpec(ports=(port(80, name="x" * 65),)), "$.ports[0].name"),
        (EndpointSpec(ports=(port(80, 80), port(81, 80))), "$.ports[1].published_port"),
        (EndpointSpec(ports=(port(80, 80), port(81, 80, publish_mode=PublishMode.HOST))), "$.ports[1].published_port"),
        (EndpointSpec(mode=EndpointMode.DNSRR, ports=(port(80),)), "$.ports[0]"),
        (EndpointSpec(ports=(port(80),) * 1025), "$.ports"),
    ],
)
def test_what_could_not_is_told_with_its_field(spec: EndpointSpec, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_endpoint(spec, "$")
    assert raised.value.field == field
