"""What may be stored as a network, secret, config, volume, extension or resource, and what each refusal points to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import (
    AddressFamily,
    Annotations,
    BlockAccess,
    CapacityRange,
    ConfigSpec,
    ContainerSpec,
    Driver,
    Extension,
    IndexEntry,
    IPAMConfig,
    IPAMOptions,
    NetworkAttachmentConfig,
    NetworkAttachmentSpec,
    NetworkSpec,
    NodeSpec,
    Resource,
    SecretSpec,
    ServiceSpec,
    TaskSpec,
    VolumeAccessMode,
    VolumeSecret,
    VolumeSpec,
    validate_config_spec,
    validate_extension,
    validate_network_spec,
    validate_node_spec,
    validate_resource,
    validate_secret_spec,
    validate_service_spec,
    validate_volume_spec,
)
from swarmd.model.checks import INDEX_BYTES_MAX, INDICES_MAX
from swarmd.model.validate_kinds import CONFIG_BYTES_MAX, SECRET_BYTES_MAX
from tests.golden import kinds

NFS = Driver(name="nfs")
VOLUME = VolumeSpec(name="data", driver=NFS, access_mode=VolumeAccessMode(access=BlockAccess()))


def refusal(check: Callable[[Any], None], value: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check(value)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value


def test_full_objects_are_legal() -> None:
    validate_network_spec(replace(kinds.NETWORK.spec, attachable=False))
    validate_secret_spec(replace(kinds.SECRET.spec, templating=Driver(name="golang")))
    validate_config_spec(replace(kinds.CONFIG.spec, templating=Driver(name="golang")))
    validate_volume_spec(kinds.VOLUME.spec)
    validate_extension(kinds.EXTENSION)
    validate_resource(kinds.RESOURCE)


# -- names -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["", "_n", "n-", ".n", "n/m", "a.b", "x" * 64, "\n", "n\n"])
def test_networks_are_named_as_services_are(name: str) -> None:
    assert refusal(validate_network_spec, NetworkSpec(name=name)).field == "$.name"
    validate_network_spec(NetworkSpec(name="n--d"))


@pytest.mark.parametrize("name", ["", ".n", "n-", "-n", "a b", "a/b", "x" * 65, "n\n", "é", "\0"])
def test_secrets_and_configs_begin_and_end_with_a_letter_or_digit(name: str) -> None:
    for check, make in ((validate_secret_spec, SecretSpec), (validate_config_spec, ConfigSpec)):
        assert refusal(check, make(name=name, data=b"x")).field == "$.name"
        check(make(name="a_.-9", data=b"x"))
        check(make(name="x" * 64, data=b"x"))


@pytest.mark.parametrize("name", ["", "   ", "a\0b", "a\nb", "x" * 257, "\ud800"])
def test_volumes_extensions_and_resources_need_any_name(name: str) -> None:
    named = Annotations(name=name)
    assert refusal(validate_volume_spec, replace(VOLUME, name=name)).field == "$.name"
    assert refusal(validate_extension, Extension(id="e", annotations=named)).field == "$.annotations.name"
    assert refusal(validate_resource, Resource(id="r", annotations=named, kind="k")).field == "$.annotations.name"
    assert refusal(validate_resource, replace(kinds.RESOURCE, kind=name)).field == "$.kind"
    validate_volume_spec(replace(VOLUME, name="any thing: really"))


# -- payloads ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("check", "make", "most"),
    [
        (validate_secret_spec, SecretSpec, 511_999),
        (validate_config_spec, ConfigSpec, 1_023_999),
    ],
)
def test_a_payload_is_neither_empty_nor_too_large(check: Callable[[Any], None], make: Any, most: int) -> None:
    assert most in (SECRET_BYTES_MAX, CONFIG_BYTES_MAX)
    for size in (0, most + 1):
        error = refusal(check, make(name="n", data=bytes(size)))
        assert (error.field, str(size) in error.message) == ("$.data", True)
    for size in (1, most):
        check(make(name="n", data=bytes(size)))


def test_a_secret_of_a_driver_needs_the_drivers_name_and_no_payload() -> None:
    validate_secret_spec(SecretSpec(name="n", driver=NFS))
    assert refusal(validate_secret_spec, SecretSpec(name="n", driver=Driver())).field == "$.driver.name"


@pytest.mark.parametrize("make", [SecretSpec, ConfigSpec])
def test_there_is_one_template_engine(make: Any) -> None:
    check = validate_secret_spec if make is SecretSpec else validate_config_spec
    assert refusal(check, make(name="n", data=b"x", templating=Driver(name="perl"))).field == "$.templating.name"
    check(make(name="n", data=b"x", templating=Driver(name="golang")))


@given(st.binary(min_size=1, max_size=50))
def test_payloads_are_in_no_representation(data: bytes) -> None:
    secret = SecretSpec(name="n", data=b"<<<" + data + b">>>")
    resource = Resource(id="r", annotations=Annotations(), kind="k", payload=b"<<<")
    for shown in (repr(secret), repr(replace(kinds.SECRET, spec=secret)), repr(resource), str(secret)):
        assert "<<<" not in shown
    assert f"<{len(data) + 6} bytes>" in repr(secret)


# -- networks ----------------------------------------------------------------------------------------------------------
def test_an_ingress_network_cannot_be_attached_to() -> None:
    spec = NetworkSpec(name="n", ingress=True, attachable=True)
    assert refusal(validate_network_spec, spec).field == "$.attachable"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (IPAMConfig(), "subnet"),
        (IPAMConfig(subnet="192.0.2.0"), "subnet"),
        (IPAMConfig(subnet="192.0.2.0/33"), "subnet"),
        (IPAMConfig(subnet="x/24"), "subnet"),
        (IPAMConfig(subnet="192.0.2.0/24", family=AddressFamily.IPV6), "family"),
        (IPAMConfig(subnet="192.0.2.0/24", range="198.51.100.0/25"), "range"),
        (IPAMConfig(subnet="192.0.2.0/24", range="2001:db8::/64"), "range"),
        (IPAMConfig(subnet="192.0.2.0/24", gateway="198.51.100.1"), "gateway"),
        (IPAMConfig(subnet="192.0.2.0/24", gateway="192.0.2.1/24"), "gateway"),
        (IPAMConfig(subnet="192.0.2.0/24", reserved={"a": "1"}), 'reserved["a"]'),
    ],
)
def test_addresses_make_sense(config: IPAMConfig, field: str) -> None:
    legal = IPAMConfig(subnet="192.0.2.0/24", range="192.0.2.128/25", gateway="192.0.2.1")
    spec = NetworkSpec(name="n", ipam=IPAMOptions(configs=(legal, config)))
    assert refusal(validate_network_spec, spec).field == f"$.ipam.configs[1].{field}"


def test_an_address_of_a_host_stands_for_its_subnet() -> None:
    validate_network_spec(NetworkSpec(name="n", ipam=IPAMOptions(configs=(IPAMConfig(subnet="192.0.2.7/24"),))))


# -- volumes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"driver": None}, "$.driver"),
        ({"driver": Driver()}, "$.driver.name"),
        ({"access_mode": None}, "$.access_mode"),
        ({"access_mode": VolumeAccessMode()}, "$.access_mode.access"),
        ({"capacity_range": CapacityRange(required_bytes=-1)}, "$.capacity_range.required_bytes"),
        ({"capacity_range": CapacityRange(limit_bytes=1, required_bytes=2)}, "$.capacity_range.required_bytes"),
        ({"secrets": (VolumeSecret(key="", secret="s"),)}, "$.secrets[0].key"),
        ({"secrets": (VolumeSecret(key="k", secret=""),)}, "$.secrets[0].secret"),
        ({"group": "x" * 300}, "$.group"),
    ],
)
def test_a_volume_says_who_makes_it_and_how_it_is_used(change: dict[str, Any], field: str) -> None:
    validate_volume_spec(VOLUME)
    assert refusal(validate_volume_spec, replace(VOLUME, **change)).field == field


# -- what all carry ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entries", "field"),
    [
        ((IndexEntry(key=""),), "$.indices[0].key"),
        ((IndexEntry(key="a"), IndexEntry(key="a\0b")), "$.indices[1].key"),
        ((IndexEntry(key="x" * (INDEX_BYTES_MAX + 1)),), "$.indices[0].key"),
        ((IndexEntry(key="a", value="x" * (INDEX_BYTES_MAX + 1)),), "$.indices[0].value"),
        ((IndexEntry(key="a"),) * (INDICES_MAX + 1), "$.indices"),
    ],
)
def test_custom_indices_have_limits(entries: tuple[IndexEntry, ...], field: str) -> None:
    assert refusal(validate_node_spec, NodeSpec(indices=entries)).field == field
    assert refusal(validate_network_spec, NetworkSpec(name="n", indices=entries)).field == field
    validate_node_spec(NodeSpec(indices=(IndexEntry(key="a", value="b"),) * 2))


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (TaskSpec(container=ContainerSpec(image="a"), networks=(NetworkAttachmentConfig(target="w"),)),
         "$.task.networks"),
        (TaskSpec(container=ContainerSpec(image="a"), attachment=NetworkAttachmentSpec(container_id="c")),
         "$.task.attachment"),
    ],
)  # fmt: skip
def test_services_cannot_ask_for_what_no_task_would_get(task: TaskSpec, field: str) -> None:
    assert refusal(validate_service_spec, ServiceSpec(name="web", task=task)).field == field
