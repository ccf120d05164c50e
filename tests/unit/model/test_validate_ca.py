"""CA settings that are refused at the door, each naming its field."""

from __future__ import annotations

import pytest

from swarmd.errors import Invalid
from swarmd.model import CAConfig, ClusterSpec, ExternalCA, validate_cluster_spec
from swarmd.model.validate_ca import EXTERNAL_CAS_MAX, check_ca

URL = "https://ca.example:8888/api/v1/cfssl/authsign"


@pytest.mark.parametrize(
    "external",
    [
        ExternalCA(url=URL),
        ExternalCA(url="HTTPS://192.0.2.1/sign?profile=node", options={"timeout": "3"}),
        ExternalCA(url="https://[2001:db8::1]:8888", ca_certificate=b"any bytes: the CA layer reads them"),
    ],
)
def test_good_external_cas(external: ExternalCA) -> None:
    check_ca(CAConfig(external_cas=(external,)), "$.ca")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with https"),
        ("http://ca.example/sign", "must begin with https"),
        ("ca.example:8888", "must begin with https"),
        ("file:///etc/shadow", "must begin with https"),
        ("https://", "names no host"),
        ("https:///sign", "names no host"),
        ("https://ca.example:0/", "no port 0"),
        ("https://ca.example:99999/", "malformed"),
        ("https://ca.example:port/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://user@ca.example/", "user or a password"),
        ("https://user:secret@ca.example/", "user or a password"),
        ("https://ca.example/#part", "fragment"),
        ("https://ca.example/a b", "must not hold"),
        ("https://ca.example/\r\nHost: other", "must not hold"),
        ("https://cä.example/", "must not hold"),
    ],
)
def test_bad_urls(url: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        check_ca(CAConfig(external_cas=(ExternalCA(url=URL), ExternalCA(url=url))), "$.ca")
    assert refused.value.field == "$.ca.external_cas[1].url"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("ca", "field"),
    [
        (CAConfig(node_cert_expiry_s=3599), "node_cert_expiry_s"),
        (CAConfig(node_cert_expiry_s=float("nan")), "node_cert_expiry_s"),
        (CAConfig(force_rotate=-1), "force_rotate"),
        (CAConfig(external_cas=(ExternalCA(url=URL, protocol="acme"),)), "external_cas[0].protocol"),
        (CAConfig(external_cas=(ExternalCA(url=URL + "x" * 2048),)), "external_cas[0].url"),
        (CAConfig(external_cas=(ExternalCA(url=URL, options={"": "x"}),)), "external_cas[0].options"),
        (CAConfig(external_cas=(ExternalCA(url=URL, ca_certificate=b"x" * 65_537),)), "external_cas[0].ca_certificate"),
        (CAConfig(external_cas=(ExternalCA(url=URL),) * (EXTERNAL_CAS_MAX + 1)), "external_cas"),
        (CAConfig(signing_ca_certificate=b"x" * 65_537), "signing_ca_certificate"),
        (CAConfig(signing_ca_key=b"x" * 65_537), "signing_ca_key"),
    ],
)
def test_refusals_name_the_field_in_the_cluster(ca: CAConfig, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        validate_cluster_spec(ClusterSpec(ca=ca))
    assert refused.value.field == f"$.ca.{field}"
