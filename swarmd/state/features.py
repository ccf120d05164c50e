"""The feature level: what replicated data may use, because every manager has announced it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmd.model import (
    Cluster,
    Config,
    EndpointSpec,
    Extension,
    Membership,
    Network,
    NetworkDefaults,
    Node,
    RemovedNode,
    Replicated,
    Resource,
    Role,
    Secret,
    Service,
    StoredObject,
    TaskDefaults,
    UpdateConfig,
    Volume,
)
from swarmd.state.keys import is_special_service

KINDS: Final = "kinds.1"
"""Networks, secrets, configs, volumes, extensions and resources; what templates and tasks say of them; indices of
one's own; claims of the indexes that belong to these."""

SECURITY: Final = "security.1"
"""Root rotation, autolock, fingerprints of certificates, sealed payloads: fields of cluster, node and secret."""

ORCHESTRATION: Final = "orchestration.1"
"""Modes other than replicated, the whole update settings, endpoints, preferences, platforms, generic resources: fields
of service, node and cluster, and what tasks have of them."""

_NEW_KINDS: Final[frozenset[type]] = frozenset({Network, Secret, Config, Volume, Extension, Resource})

_NO_UPDATE_CONFIG: Final = UpdateConfig()
_NO_ENDPOINT: Final = EndpointSpec()
_NO_TASK_DEFAULTS: Final = TaskDefaults()
_NO_NETWORK_DEFAULTS: Final = NetworkDefaults()

_FIRST_INDEXES: Final = frozenset(
    {
        *("service.name", "node.hostname", "node.schedulable", "cluster.only"),
        *("task.service", "task.node", "task.slot"),
    }
)
"""What commands could claim from the first version on."""


def features_of_managers(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The features that every manager among `nodes` has announced, sorted. A node that is to become one counts."""
    announced = [
        frozenset(node.description.features)
        for node in nodes
        if node.spec.membership is Membership.ACCEPTED and Role.MANAGER in (node.role, node.spec.desired_role)
    ]
    return tuple(sorted(frozenset.intersection(*announced))) if announced else ()


def raised_feature_level(level: Iterable[str], nodes: Iterable[Node]) -> tuple[str, ...]:
    """`level` with what all managers have announced by now. It never shrinks: stored data may use it already."""
    return tuple(sorted(frozenset(level) | frozenset(features_of_managers(nodes))))


def feature_needed(object: StoredObject) -> str:
    """The feature that every manager must have before `object` may stand in the log; "" if it could from the first
    version on. Tasks are not looked at: they are made after a service that was."""
    if _is_of_orchestration(object):
        return ORCHESTRATION
    if _is_of_security(object):
        return SECURITY
    if isinstance(object, Node | Cluster):
        is_new = bool(object.spec.indices)
    elif isinstance(object, Service):
        is_new = is_special_service(object) or object.spec.task.attachment is not None
    else:
        is_new = type(object) in _NEW_KINDS
    return KINDS if is_new else ""


def _is_of_orchestration(object: StoredObject) -> bool:
    """Whoever knows these fields knows all that is older, too."""
    if isinstance(object, Service):
        spec = object.spec
        return bool(
            not isinstance(spec.mode, Replicated)
            or spec.update != UpdateConfig(parallelism=spec.update.parallelism, delay_s=spec.update.delay_s)
            or spec.rollback != _NO_UPDATE_CONFIG
            or spec.endpoint != _NO_ENDPOINT
            or spec.depends_on
            or spec.task.log_driver
            or spec.task.resources.reservations.generic
            or spec.task.placement.preferences
            or spec.task.placement.platforms
            or spec.task.placement.strategy
            or object.update_status
            or object.job_status
            or object.endpoint
            or object.rebalancing
        )
    if isinstance(object, Node):
        return bool(object.description.resources.generic or object.description.plugins or object.attachments)
    if isinstance(object, Cluster):
        return bool(object.spec.task_defaults != _NO_TASK_DEFAULTS or object.spec.networks != _NO_NETWORK_DEFAULTS)
    return False


def _is_of_security(object: StoredObject) -> bool:
    """Whoever knows these fields knows all that is older, too."""
    if isinstance(object, Node):
        certificate, status = object.certificate, object.status
        return bool(certificate.fingerprint or certificate.earlier or status.certificate or status.issuer)
    if isinstance(object, Secret):
        return object.sealed is not None
    if isinstance(object, RemovedNode):
        return bool(object.fingerprints)
    if not isinstance(object, Cluster):
        return False
    ca, root = object.spec.ca, object.root_ca
    return bool(
        object.unlock_key.version
        or object.payload_keys
        or object.spec.encryption.auto_lock_managers
        or ca.external_cas
        or ca.signing_ca_certificate
        or ca.signing_ca_key
        or ca.force_rotate
        or root.rotation
        or root.last_forced_rotation
    )


def feature_of_kind(type_: type) -> str:
    """The feature that every manager must have before a command may speak of such objects at all, even to say that
    there is none; "" if it always could."""
    return KINDS if type_ in _NEW_KINDS else ""


def feature_of_index(name: str) -> str:
    """The same for a command that claims something of an index."""
    if name == "node.request":
        return SECURITY
    if name in ("service.port", "network.every"):
        return ORCHESTRATION
    return "" if name in _FIRST_INDEXES else KINDS
