"""The validity of a cluster's CA settings: external signers and a wanted root, before anybody reads PEM."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from swarmd.errors import Invalid
from swarmd.model.checks import check_duration, check_integer, check_labels, check_text
from swarmd.model.quote import quote
from swarmd.model.specs import CAConfig, ExternalCA

CERTIFICATE_EXPIRY_S_MIN: Final = 3600.0
EXTERNAL_CAS_MAX: Final = 16
URL_BYTES_MAX: Final = 2_048
PEM_BYTES_MAX: Final = 64 << 10
PROTOCOLS: Final = ("cfssl",)


def check_ca(spec: CAConfig, path: str) -> None:
    """Raise `Invalid` unless the settings can be stored."""
    check_duration(
        spec.node_cert_expiry_s,
        f"{path}.node_cert_expiry_s",
        "the lifetime of certificates",
        minimum=CERTIFICATE_EXPIRY_S_MIN,
    )
    check_integer(spec.force_rotate, f"{path}.force_rotate", "the rotation counter")
    if len(spec.external_cas) > EXTERNAL_CAS_MAX:
        raise Invalid(
            f"there are at most {EXTERNAL_CAS_MAX} external CAs, not {len(spec.external_cas)}",
            field=f"{path}.external_cas",
        )
    for position, external in enumerate(spec.external_cas):
        _check_external(external, f"{path}.external_cas[{position}]")
    _check_pem(spec.signing_ca_certificate, f"{path}.signing_ca_certificate")
    _check_pem(spec.signing_ca_key, f"{path}.signing_ca_key")


def _check_external(external: ExternalCA, path: str) -> None:
    if external.protocol not in PROTOCOLS:
        raise Invalid(
            f"there is no external CA protocol {quote(external.protocol)}", field=f"{path}.protocol", hint="cfssl"
        )
    check_text(external.url, f"{path}.url", URL_BYTES_MAX)
    problem = _url_problem(external.url)
    if problem:
        raise Invalid(
            f"the external CA's URL cannot be used: {problem}",
            field=f"{path}.url",
            hint="like https://ca.example:8888/api/v1/cfssl/authsign",
        )
    check_labels(external.options, f"{path}.options")
    _check_pem(external.ca_certificate, f"{path}.ca_certificate")


def _url_problem(url: str) -> str:
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it holds characters that a URL must not hold"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "it is malformed"
    if parts.scheme != "https":
        return "it must begin with https://"
    if not host:
        return "it names no host"
    if port == 0:
        return "there is no port 0"
    if parts.username is not None or parts.password is not None:
        return "it must not hold a user or a password: this manager's certificate is what the CA is shown"
    return "it must not hold a #fragment" if parts.fragment else ""


def _check_pem(pem: bytes, path: str) -> None:
    if len(pem) > PEM_BYTES_MAX:
        raise Invalid(f"a PEM text has at most {PEM_BYTES_MAX} bytes, not {len(pem)}", field=path)
