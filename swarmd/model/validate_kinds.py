"""The validity of networks, secrets, configs, volumes, extensions and resources: nothing, or `Invalid` with the field.

Sources: reference api-and-cli 1.2, 1.6, 1.8, 1.9; SwarmKit `manager/controlapi/{network,secret,config,volume}.go`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import (
    check_indices,
    check_integer,
    check_labels,
    check_name,
    check_size,
    check_text,
)
from swarmd.model.common import Annotations, Driver, IndexEntry
from swarmd.model.extensions import Extension, Resource
from swarmd.model.networks import IPAMConfig, NetworkSpec
from swarmd.model.payloads import ConfigSpec, SecretSpec
from swarmd.model.quote import quote
from swarmd.model.volumes import VolumeSpec

SECRET_BYTES_MAX: Final = 511_999
CONFIG_BYTES_MAX: Final = 1_023_999
PAYLOAD_NAME_CHARACTERS_MAX: Final = 64
"""Names of secrets and configs."""
FREE_NAME_BYTES_MAX: Final = 256
"""Names of volumes, extensions, resources and kinds, which have no form."""
IPAM_CONFIGS_MAX: Final = 64
TEMPLATING_ENGINES: Final = ("golang",)

_PAYLOAD_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_Subnet = IPv4Network | IPv6Network


def validate_network_spec(spec: NetworkSpec) -> None:
    """Raise `Invalid` unless `spec` could be a network."""
    check_name(spec.name, "network")
    _check_carried(spec.labels, spec.indices)
    if spec.attachable and spec.ingress:
        raise Invalid("the ingress network is attached to by the swarm alone", field="$.attachable")
    _check_driver(spec.driver_config, "$.driver_config")
    if spec.ipam is not None:
        _check_driver(spec.ipam.driver, "$.ipam.driver")
        if len(spec.ipam.configs) > IPAM_CONFIGS_MAX:
            raise Invalid(f"there are at most {IPAM_CONFIGS_MAX} subnets", field="$.ipam.configs")
        for position, config in enumerate(spec.ipam.configs):
            _check_ipam(config, f"$.ipam.configs[{position}]")
    check_size(spec)


def validate_secret_spec(spec: SecretSpec) -> None:
    """Raise `Invalid` unless `spec` holds a payload, or names a driver that is asked for it."""
    _check_payload_name(spec.name, "secret")
    _check_carried(spec.labels, spec.indices)
    _check_templating(spec.templating)
    if spec.driver is None:
        _check_payload(spec.data, SECRET_BYTES_MAX, "secret")
    else:
        _check_driver(spec.driver, "$.driver", is_needed=True)
    check_size(spec)


def validate_config_spec(spec: ConfigSpec) -> None:
    """Raise `Invalid` unless `spec` holds a payload."""
    _check_payload_name(spec.name, "config")
    _check_carried(spec.labels, spec.indices)
    _check_templating(spec.templating)
    _check_payload(spec.data, CONFIG_BYTES_MAX, "config")
    check_size(spec)


def validate_relabelled(spec: SecretSpec | ConfigSpec) -> None:
    """Raise `Invalid` unless what is stored may be stored with the labels that `spec` has. Its payload is not looked
    at: a secret's lies elsewhere, sealed."""
    check_labels(spec.labels, "$.labels")
    check_size(spec)


def validate_volume_spec(spec: VolumeSpec) -> None:
    """Raise `Invalid` unless a driver could make the volume."""
    _check_free_name(spec.name, "$.name", "a volume needs a name")
    _check_carried(spec.labels, spec.indices)
    check_text(spec.group, "$.group", FREE_NAME_BYTES_MAX)
    _check_driver(spec.driver, "$.driver", is_needed=True)
    if spec.access_mode is None:
        raise Invalid("a volume needs an access mode", field="$.access_mode")
    if spec.access_mode.access is None:
        raise Invalid("a volume is mounted or a block device", field="$.access_mode.access", hint="say which")
    capacity = spec.capacity_range
    if capacity is not None:
        check_integer(capacity.required_bytes, "$.capacity_range.required_bytes", "the capacity")
        check_integer(capacity.limit_bytes, "$.capacity_range.limit_bytes", "the capacity")
        if capacity.limit_bytes and capacity.required_bytes > capacity.limit_bytes:
            raise Invalid("more is required than the limit allows", field="$.capacity_range.required_bytes")
    for position, secret in enumerate(spec.secrets):
        _check_free_name(secret.key, f"$.secrets[{position}].key", "the driver's name of a secret is missing")
        _check_free_name(secret.secret, f"$.secrets[{position}].secret", "the secret is missing")
    check_size(spec)


def validate_extension(extension: Extension) -> None:
    """Raise `Invalid` unless it can name a kind."""
    _check_annotations(extension.annotations, "an extension needs a name")
    check_size(extension)


def validate_resource(resource: Resource) -> None:
    """Raise `Invalid` unless it has a name and a kind; whether there is such a kind is for the state to say."""
    _check_annotations(resource.annotations, "a resource needs a name")
    _check_free_name(resource.kind, "$.kind", "a resource needs a kind")
    check_size(resource)


# -- what they are made of ---------------------------------------------------------------------------------------------
def _check_carried(labels: dict[str, str], indices: tuple[IndexEntry, ...]) -> None:
    check_labels(labels, "$.labels")
    check_indices(indices, "$.indices")


def _check_annotations(annotations: Annotations, missing: str) -> None:
    _check_free_name(annotations.name, "$.annotations.name", missing)
    check_labels(annotations.labels, "$.annotations.labels")
    check_indices(annotations.indices, "$.annotations.indices")


def _check_free_name(name: str, path: str, missing: str) -> None:
    if not name.strip():
        raise Invalid(missing, field=path)
    check_text(name, path, FREE_NAME_BYTES_MAX)
    if not name.isprintable():
        raise Invalid("a name holds no control characters", field=path)


def _check_payload_name(name: str, what: str) -> None:
    if not name:
        raise Invalid(f"a {what} needs a name", field="$.name")
    if len(name) > PAYLOAD_NAME_CHARACTERS_MAX:
        raise Invalid(f"a {what}'s name has at most {PAYLOAD_NAME_CHARACTERS_MAX} characters", field="$.name")
    if _PAYLOAD_NAME.fullmatch(name) is None:
        raise Invalid(
            f"{quote(name)} is not a legal {what} name",
            field="$.name",
            hint="letters, digits, - _ and ., beginning and ending with a letter or digit",
        )


def _check_payload(data: bytes, bytes_max: int, what: str) -> None:
    if not 1 <= len(data) <= bytes_max:
        raise Invalid(f"a {what} has 1 to {bytes_max} bytes, not {len(data)}", field="$.data")


def _check_templating(templating: Driver | None) -> None:
    if templating is not None and templating.name not in TEMPLATING_ENGINES:
        raise Invalid(
            f"there is no template engine {quote(templating.name)}",
            field="$.templating.name",
            hint=f"one of {', '.join(TEMPLATING_ENGINES)}",
        )


def _check_driver(driver: Driver | None, path: str, *, is_needed: bool = False) -> None:
    if driver is None:
        if is_needed:
            raise Invalid("a driver is needed", field=path)
        return
    if is_needed or driver.options:
        _check_free_name(driver.name, f"{path}.name", "a driver needs a name")
    check_text(driver.name, f"{path}.name", FREE_NAME_BYTES_MAX)
    check_labels(driver.options, f"{path}.options")


def _check_ipam(config: IPAMConfig, path: str) -> None:
    subnet = _subnet(config.subnet, f"{path}.subnet")
    if config.family and config.family != subnet.version:
        raise Invalid(f"{quote(config.subnet)} is of another family", field=f"{path}.family")
    if config.range:
        within = _subnet(config.range, f"{path}.range")
        if not _contains(subnet, within.network_address):
            raise Invalid(f"{quote(config.range)} is not within {subnet}", field=f"{path}.range")
    if config.gateway:
        _check_within(subnet, config.gateway, f"{path}.gateway")
    for name, address in config.reserved.items():
        _check_within(subnet, address, f"{path}.reserved[{quote(name)}]")


def _subnet(text: str, path: str) -> _Subnet:
    try:
        if "/" not in text:
            raise ValueError
        return ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"{quote(text)} is not a subnet", field=path, hint="like 192.0.2.0/24") from None


def _check_within(subnet: _Subnet, text: str, path: str) -> None:
    try:
        address = ip_address(text)
    except ValueError:
        raise Invalid(f"{quote(text)} is not an address", field=path) from None
    if not _contains(subnet, address):
        raise Invalid(f"{quote(text)} is not within {subnet}", field=path)


def _contains(subnet: _Subnet, address: IPv4Address | IPv6Address) -> bool:
    return address.version == subnet.version and address in subnet
