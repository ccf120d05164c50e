"""The options that describe the cluster's settings. What is not given changes nothing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.endpoint import changed_log_driver
from swarmctl.values import parse_duration, parse_integer
from swarmd.errors import Invalid
from swarmd.model import ClusterSpec, ExternalCA, TokenlessJoin

Text = str | None
Texts = list[str] | None

FILE_BYTES_MAX: Final = 64 << 10
EXTERNAL_CA_HINT: Final = "protocol=cfssl,url=https://ca.example:8888/api/v1/cfssl/authsign[,cacert=FILE]"


class ClusterFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Both spellings where SwarmKit and Docker have different ones."""

    task_history: Annotated[
        Text,
        typer.Option(
            "--task-history", "--taskhistory", "--task-history-limit", metavar="N", help="Ended tasks kept per slot."
        ),
    ] = None
    cert_expiry: Annotated[
        Text, typer.Option("--cert-expiry", "--certexpiry", metavar="DURATION", help="How long certificates hold.")
    ] = None
    heartbeat_period: Annotated[
        Text,
        typer.Option(
            *("--heartbeat-period", "--heartbeatperiod", "--dispatcher-heartbeat"),
            metavar="DURATION",
            help="How often nodes say that they live.",
        ),
    ] = None
    external_ca: Annotated[
        Texts,
        typer.Option("--external-ca", metavar="SPEC", help=f"A signer outside the swarm: {EXTERNAL_CA_HINT}"),
    ] = None
    autolock: Annotated[
        bool | None,
        typer.Option("--autolock/--no-autolock", show_default=False, help="Managers stay locked after a restart."),
    ] = None
    tokenless_join: Annotated[
        Text,
        typer.Option(
            "--tokenless-join", metavar="pending|deny", help="What becomes of a node that asks without a token."
        ),
    ] = None
    default_addr_pool: Annotated[
        Texts,
        typer.Option(
            "--default-addr-pool", metavar="CIDR", help="Where subnets of new networks come from; all of them."
        ),
    ] = None
    default_addr_pool_mask_length: Annotated[
        Text,
        typer.Option(
            "--default-addr-pool-mask-length", metavar="BITS", help="How large those subnets are: 20 is 4,096."
        ),
    ] = None

    log_driver: Annotated[
        Text,
        typer.Option(
            "--log-driver", metavar="NAME", help="Where new tasks' output goes if their service does not say."
        ),
    ] = None
    log_opt: Annotated[Texts, typer.Option("--log-opt", metavar="KEY=VALUE", help="One option of that log driver.")] = (
        None
    )

    @property
    def is_empty(self) -> bool:
        """Whether none was given."""
        return all(getattr(self, name) in (None, [], ()) for name in self.__struct_fields__)


def changed_cluster_spec(spec: ClusterSpec, flags: ClusterFlags) -> ClusterSpec:
    """`spec` with what was given. Raises `Invalid` naming the option that is not understood."""
    ca = spec.ca
    if flags.task_history is not None:
        limit = parse_integer(flags.task_history, "--task-history")
        spec = replace(spec, orchestration=replace(spec.orchestration, task_history_retention_limit=limit))
    if flags.heartbeat_period is not None:
        period_s = parse_duration(flags.heartbeat_period, "--heartbeat-period")
        spec = replace(spec, dispatcher=replace(spec.dispatcher, heartbeat_period_s=period_s))
    if flags.cert_expiry is not None:
        ca = replace(ca, node_cert_expiry_s=parse_duration(flags.cert_expiry, "--cert-expiry"))
    if flags.external_ca:
        ca = replace(ca, external_cas=parse_external_cas(flags.external_ca))
    if flags.tokenless_join is not None:
        ca = replace(ca, tokenless_join=_parse_tokenless(flags.tokenless_join))
    if flags.default_addr_pool:
        networks = replace(spec.networks, default_address_pools=tuple(flags.default_addr_pool))
        spec = replace(spec, networks=networks)
    if flags.default_addr_pool_mask_length is not None:
        bits = parse_integer(flags.default_addr_pool_mask_length, "--default-addr-pool-mask-length")
        spec = replace(spec, networks=replace(spec.networks, subnet_size=bits))
    if flags.autolock is not None:
        spec = replace(spec, encryption=replace(spec.encryption, auto_lock_managers=flags.autolock))
    log_driver = changed_log_driver(spec.task_defaults.log_driver, flags.log_driver, flags.log_opt)
    return replace(spec, ca=ca, task_defaults=replace(spec.task_defaults, log_driver=log_driver))


def parse_external_cas(texts: Sequence[str]) -> tuple[ExternalCA, ...]:
    """Each `protocol=cfssl,url=https://...[,cacert=FILE][,KEY=VALUE...]`; one empty text means none at all."""
    return () if list(texts) == [""] else tuple(_parse_external_ca(text) for text in texts)


def read_pem(path: str, option: str) -> bytes:
    """The file's bytes. Raises `Invalid` naming the option; what is in it is for the manager to judge."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no path"
        raise Invalid(f'{option}: cannot read "{path}": {reason}') from error
    if not content or len(content) > FILE_BYTES_MAX:
        raise Invalid(f'{option}: "{path}" holds {"nothing" if not content else "more than a certificate or key"}')
    return content


def _parse_external_ca(text: str) -> ExternalCA:
    given: dict[str, str] = {}
    try:
        parts = next(csv.reader([text]), [])
    except csv.Error:
        raise Invalid("--external-ca: that is not understood", hint=EXTERNAL_CA_HINT) from None
    for part in parts:
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if not equals or not key or key in given:
            raise Invalid(f'--external-ca: "{part.strip()}" is not understood', hint=EXTERNAL_CA_HINT)
        given[key] = value.strip()
    for needed in ("protocol", "url"):
        if not given.get(needed):
            raise Invalid(f"--external-ca: {needed}= is missing", hint=EXTERNAL_CA_HINT)
    certificate = given.pop("cacert", "")
    return ExternalCA(
        protocol=given.pop("protocol").lower(),
        url=given.pop("url"),
        ca_certificate=read_pem(certificate, "--external-ca cacert=") if certificate else b"",
        options=given,
    )


def _parse_tokenless(text: str) -> TokenlessJoin:
    try:
        return TokenlessJoin[text.upper()]
    except KeyError:
        raise Invalid(f'--tokenless-join: "{text}" is not understood', hint="pending or deny") from None
