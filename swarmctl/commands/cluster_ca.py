"""`cluster ca show`, `cluster ca rotate` (a group inside `cluster`)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.cluster_flags import parse_external_cas, read_pem
from swarmctl.commands.cluster_update import change_cluster
from swarmctl.invocation import Invocation, Output
from swarmctl.render.cluster import rotation_text
from swarmctl.render.plain import plain
from swarmctl.show import Kind, show_one
from swarmctl.values import parse_duration
from swarmctl.verbs import group, verb
from swarmctl.wait import Progress, Waiter, WaitOptions
from swarmd.errors import Invalid
from swarmd.model import CAConfig, ExternalCA
from swarmd.wire.cluster import ClusterView, GetCluster, UpdateCluster
from swarmd.wire.methods import CLUSTER_GET

app = group("cluster ca", "The root that every certificate of the swarm hangs from.")


class RotateFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Which root is wanted: one that is brought, or else one of the swarm's own making."""

    ca_cert: Annotated[
        str | None, typer.Option("--ca-cert", metavar="FILE", help="The wanted root (PEM); else the swarm makes one.")
    ] = None
    ca_key: Annotated[
        str | None, typer.Option("--ca-key", metavar="FILE", help="Its key; without it an external CA signs.")
    ] = None
    external_ca: Annotated[
        list[str] | None,
        typer.Option(
            "--external-ca", metavar="SPEC", help="A signer for that root: protocol=cfssl,url=https://... (repeatable)."
        ),
    ] = None
    cert_expiry: Annotated[
        str | None, typer.Option("--cert-expiry", metavar="DURATION", help="How long certificates hold from now on.")
    ] = None

    @property
    def is_empty(self) -> bool:
        """Whether none was given."""
        return all(getattr(self, name) in (None, [], ()) for name in self.__struct_fields__)


@verb(app, "show")
def show(call: Invocation) -> None:
    """Print the root certificate, and nothing else."""
    with call.client() as client:
        view = client.read(CLUSTER_GET, GetCluster())
    show_one(call, ROOT, view, lambda: view.cluster.root_ca.certificate.decode())


@verb(app, "rotate")
def rotate(
    call: Invocation,
    flags: RotateFlags,
    waiting: WaitOptions,
    *,
    abort: Annotated[
        bool, typer.Option("--abort", help="Call the rotation off that is under way: the present root stays.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="As --no-wait.")] = False,
) -> None:
    """Replace the root. Every node renews its certificate; tasks and connections go on."""
    wish = _wish_of(flags)
    if abort and not flags.is_empty:
        raise Invalid("--abort goes with no other root", hint="swarmctl cluster ca rotate --abort")
    waiter = Waiter(call, replace(waiting, wait=False) if detach else waiting)
    with call.client() as client:
        view = change_cluster(
            client,
            client.read(CLUSTER_GET, GetCluster()),
            lambda view: UpdateCluster(
                id=view.cluster.id,
                spec=replace(view.cluster.spec, ca=_called_off(view) if abort else wish.of(view.cluster.spec.ca)),
                version=view.cluster.meta.version,
            ),
        )
        rotation = view.rotation
        if rotation is None:
            call.note("The root stays what it is; no rotation is under way.")
            show_one(call, ROOT, view, lambda: _digest_line(view))
            return
        target = rotation.fingerprint
        if call.output in (Output.JSON, Output.YAML) or call.quiet:
            show_one(call, ROOT, view, lambda: "")
        else:
            call.line(f"rotating to root {target}")
        if waiter.until(client, "root rotation", lambda client: root_rotation_progress(client, target)):
            done = client.read(CLUSTER_GET, GetCluster())
            if call.output is Output.TABLE and not call.quiet:
                call.block(_digest_line(done))
                call.note("The join tokens are new: swarmctl cluster join-token worker")


def root_rotation_progress(client: Client, target: str) -> Progress:
    """Done when the root with this fingerprint is the swarm's; stuck when another one was wanted meanwhile."""
    view = client.read(CLUSTER_GET, GetCluster())
    if view.rotation is None:
        is_done = view.root.fingerprint == target
        return Progress(done=is_done, text="done", stuck="" if is_done else "it was called off")
    if view.rotation.fingerprint != target:
        return Progress(done=False, text="", stuck="another rotation took its place")
    return Progress(done=False, text=rotation_text(view.rotation))


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What `ca rotate` makes of the CA's settings."""

    certificate: bytes
    key: bytes
    external_cas: tuple[ExternalCA, ...]
    cert_expiry_s: float | None

    def of(self, ca: CAConfig) -> CAConfig:
        """Signers for the present root stay listed: it may need them until it is replaced."""
        urls = {external.url for external in self.external_cas}
        kept = tuple(external for external in ca.external_cas if external.url not in urls)
        return replace(
            ca,
            signing_ca_certificate=self.certificate,
            signing_ca_key=self.key,
            force_rotate=ca.force_rotate + (not self.certificate),
            external_cas=kept + self.external_cas,
            node_cert_expiry_s=ca.node_cert_expiry_s if self.cert_expiry_s is None else self.cert_expiry_s,
        )


def _called_off(view: ClusterView) -> CAConfig:
    """The CA's settings that want the present root."""
    return replace(view.cluster.spec.ca, signing_ca_certificate=view.cluster.root_ca.certificate)


def _wish_of(flags: RotateFlags) -> _Wish:
    """Reads the files. Raises `Invalid` naming the option."""
    if flags.ca_key is not None and flags.ca_cert is None:
        raise Invalid("--ca-key needs --ca-cert", hint="a key without its certificate is no root")
    if flags.external_ca and flags.ca_cert is None:
        raise Invalid("--external-ca needs --ca-cert", hint="which root does it sign for?")
    certificate = read_pem(flags.ca_cert, "--ca-cert") if flags.ca_cert is not None else b""
    externals = parse_external_cas(flags.external_ca or ())
    return _Wish(
        certificate=certificate,
        key=read_pem(flags.ca_key, "--ca-key") if flags.ca_key is not None else b"",
        external_cas=tuple(e if e.ca_certificate else replace(e, ca_certificate=certificate) for e in externals),
        cert_expiry_s=None if flags.cert_expiry is None else parse_duration(flags.cert_expiry, "--cert-expiry"),
    )


def _digest_line(view: ClusterView) -> str:
    return f"digest {view.cluster.root_ca.digest}\n"


def _document(view: ClusterView) -> Any:
    return plain(view.root) | {
        "certificate": view.cluster.root_ca.certificate.decode(),
        "digest": view.cluster.root_ca.digest,
        "rotation": plain(view.rotation),
    }


def _target(view: ClusterView) -> str:
    return view.rotation.fingerprint if view.rotation is not None else view.root.fingerprint


ROOT: Kind[ClusterView] = Kind(_target, _target, _document)
