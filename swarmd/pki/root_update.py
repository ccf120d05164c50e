"""What a wish about the swarm's root means: the rows of reference security 4.2, in their order.

Pure: which external CAs answer, how a root is made and cross-signed are passed in. A wish that is refused changes
nothing. Differences from SwarmKit: only a *higher* `force_rotate` asks for a new root (a spec written from scratch says
0 and must not rotate); going back to the present root is allowed however little time that has left, and needs no key
where the swarm has it and no external CA is listed for it (nobody can show a key that never leaves).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import CAConfig, RootCA, RootRotation
from swarmd.pki.authority import Authority, basic_constraints_of, signature_hash
from swarmd.pki.pem import load_certificate, load_signing_key, pem
from swarmd.pki.roots import CERTIFICATE_FIELD, KEY_FIELD, check_key, check_root, is_same_key, normal_root

EXTERNAL_CAS_FIELD = "$.spec.ca.external_cas"


class NewRoot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A root (PEM) to rotate to; without a key an external CA signs for it."""

    certificate: bytes
    key: bytes = b""

    def __repr__(self) -> str:
        """Without the key."""
        return "NewRoot()"


class Signing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What signs certificates now: the root they are of, its key if the swarm has it, what goes behind each leaf."""

    certificate: bytes
    key: bytes
    cross_signed: bytes

    def __repr__(self) -> str:
        """Without the key."""
        return "Signing()"


def signing_of(root: RootCA) -> Signing:
    """While the root is rotated the new one signs, and every leaf carries what makes it hold under the present one."""
    rotation = root.rotation
    if rotation is None:
        return Signing(certificate=root.certificate, key=root.key, cross_signed=b"")
    return Signing(certificate=rotation.certificate, key=rotation.key, cross_signed=rotation.cross_signed)


def decide_root(
    root: RootCA,
    wanted: CAConfig,
    *,
    is_reachable: Callable[[bytes], bool],
    make_root: Callable[[], NewRoot],
    now: float,
) -> RootCA | NewRoot:
    """The root object that `wanted` asks for, or the root to begin a rotation to (`begin_rotation`).

    Args:
        is_reachable: whether an external CA that is listed for this root (PEM) answers.
        make_root: makes the swarm's own next root; asked at most once, and the caller keeps what it made.

    Raises `Invalid`.
    """
    key = wanted.signing_ca_key
    wanted = replace(wanted, force_rotate=max(wanted.force_rotate, root.last_forced_rotation))
    if key and not wanted.signing_ca_certificate:
        raise Invalid("a signing key needs the certificate that it belongs to", field=KEY_FIELD)  # row 1
    certificate = normal_root(wanted.signing_ca_certificate) if wanted.signing_ca_certificate else b""
    if not root.key:
        if certificate and certificate == normal_root(root.certificate) and key:  # row 2: external -> internal
            check_key(certificate, key)
            return replace(root, key=key, rotation=None, last_forced_rotation=wanted.force_rotate)
        _require_reachable(root.certificate, "the present root", is_reachable)  # row 3
    if not certificate:
        return _without_certificate(root, wanted, is_reachable, make_root)
    return _with_certificate(root, wanted, certificate, is_reachable, now)


def begin_rotation(root: RootCA, new: NewRoot, *, cross_signed: bytes, force_rotate: int, now: float) -> RootCA:
    """`root` on its way to `new`, in place of any other way. `cross_signed` is `new` as the present root signed it,
    never as a root that was itself only on its way."""
    rotation = RootRotation(certificate=new.certificate, key=new.key, cross_signed=cross_signed, started_at=now)
    return replace(root, rotation=rotation, last_forced_rotation=force_rotate)


def cross_sign(root: RootCA, new: NewRoot) -> bytes:
    """`new` as signed by the present root, whose key the swarm has."""
    return Authority(root.certificate, root.key).cross_sign(new.certificate)


class RootRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an external CA is asked in order to cross-sign a root: a request by the root's key, which carries its
    subject, and the extensions that it must repeat."""

    csr: bytes
    common_name: str
    extensions: tuple[RequestedExtension, ...]


class RequestedExtension(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`value` is DER."""

    oid: str
    critical: bool
    value: bytes


def request_of_root(new: NewRoot) -> RootRequest:
    """The request that an external CA is to cross-sign."""
    root, key = load_certificate(new.certificate), load_signing_key(new.key)
    names = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    constraints = basic_constraints_of(root) or x509.BasicConstraints(ca=True, path_length=None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(root.subject)
    csr = builder.add_extension(constraints, critical=True).sign(key, signature_hash(key))
    return RootRequest(
        csr=pem(csr),
        common_name=str(names[0].value) if names else "",
        extensions=(
            RequestedExtension(oid=constraints.oid.dotted_string, critical=True, value=constraints.public_bytes()),
        ),
    )


def own_root(now: float) -> NewRoot:
    """A root of the swarm's own making."""
    authority = Authority.create(now)
    return NewRoot(certificate=authority.certificate, key=authority.key)


def _without_certificate(
    root: RootCA, wanted: CAConfig, is_reachable: Callable[[bytes], bool], make_root: Callable[[], NewRoot]
) -> RootCA | NewRoot:
    if wanted.force_rotate > root.last_forced_rotation:  # row 4
        return make_root()
    if root.rotation is not None and not root.rotation.key:  # row 5
        _require_reachable(root.rotation.certificate, "the root that is being rotated to", is_reachable)
    return root


def _with_certificate(
    root: RootCA, wanted: CAConfig, certificate: bytes, is_reachable: Callable[[bytes], bool], now: float
) -> RootCA | NewRoot:
    key, forced = wanted.signing_ca_key, wanted.force_rotate
    is_present = certificate == normal_root(root.certificate)
    if not is_present:  # row 6; an operator may always go back to what is trusted anyway
        check_root(certificate, now=now)
    if key:
        check_key(certificate, key)
    elif is_present and root.key and not _lists_signer(wanted, root, certificate):
        key = root.key  # called off, and nothing else
    else:
        _require_reachable(certificate, "the wanted root", is_reachable)
    if is_present:  # row 7
        return replace(root, key=key, rotation=None, last_forced_rotation=forced)
    if is_same_key(certificate, root.certificate):  # row 8
        raise Invalid(
            "the wanted root has the present root's key under another certificate",
            field=CERTIFICATE_FIELD,
            hint="make a root with a key of its own",
        )
    if root.rotation is not None and certificate == root.rotation.certificate:  # row 9
        return replace(root, rotation=replace(root.rotation, key=key), last_forced_rotation=forced)
    if not root.key and not key:
        raise Invalid(
            "a swarm cannot go from one external CA to another",
            field=CERTIFICATE_FIELD,
            hint="go to a root whose key the swarm has first",
        )
    return NewRoot(certificate=certificate, key=key)  # row 10


def _lists_signer(wanted: CAConfig, root: RootCA, certificate: bytes) -> bool:
    """Whether an external CA is listed for this root; one that names no root means the present one."""
    return any(normal_root(e.ca_certificate or root.certificate) == certificate for e in wanted.external_cas)


def _require_reachable(certificate: bytes, whose: str, is_reachable: Callable[[bytes], bool]) -> None:
    if not is_reachable(certificate):
        raise Invalid(
            f"{whose} has no key here, so an external CA that signs for it must be listed and answer",
            field=EXTERNAL_CAS_FIELD,
            hint="name it with --external-ca protocol=cfssl,url=https://..., and look whether it is up",
        )
