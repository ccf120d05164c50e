"""Secrets: create, read without the payload, relabel, remove. A payload is sealed before anything is proposed.

Sources: reference api-and-cli 1.8, security 7.1; SwarmKit `manager/controlapi/secret.go`.
"""

from __future__ import annotations

import hmac
from typing import Any

from msgspec.structs import replace

from swarmd.errors import NotFound, Unavailable
from swarmd.manager.control_api import redact
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.filters import check_size
from swarmd.manager.control_api.payloads import (
    check_is_built,
    check_is_unused,
    check_name_is_free,
    check_only_labels,
    check_version,
    found,
    listed,
    only_labels,
    require_id,
)
from swarmd.model import Cluster, Secret, SecretSpec, validate_relabelled, validate_secret_spec
from swarmd.pki.payload_keys import newest_key, payload_of, sealed_secret, with_new_key
from swarmd.state.command import Table
from swarmd.state.selectors import ByName
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import GetObject, Removed, RemoveObject
from swarmd.wire.methods import SECRET_CREATE, SECRET_GET, SECRET_LIST, SECRET_REMOVE, SECRET_UPDATE, Method
from swarmd.wire.payloads import CreateSecret, ListPayloads, SecretList, SecretView, UpdateSecret

NOUN = "secret"


class SecretHandlers:
    """Serves `secret.*`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {
            SECRET_LIST: self.list,
            SECRET_GET: self.get,
            SECRET_CREATE: self.create,
            SECRET_UPDATE: self.update,
            SECRET_REMOVE: self.remove,
        }

    async def get(self, call: Call, request: GetObject) -> SecretView:
        """Without the payload. Raises `Invalid` for an empty id, `NotFound`."""
        require_id(request.id, NOUN)
        state = await self._access.read(call)
        return _view(found(state.get(Secret, request.id), request.id, NOUN))

    async def list(self, call: Call, request: ListPayloads) -> SecretList:
        """By name, without payloads. Raises `Invalid`, `ResourceExhausted` if more match than one reply holds."""
        state = await self._access.read(call)
        views = tuple(_view(secret) for secret in listed(state, Secret, request))
        check_size(views, "secrets", "ask for some of them by name")
        return SecretList(secrets=views)

    async def create(self, call: Call, request: CreateSecret) -> SecretView:
        """Raises `Invalid`, `AlreadyExists`, `Unimplemented` for a driver or template, `FailedPrecondition` while a
        manager cannot read sealed payloads."""
        check_is_built(request.spec, NOUN)
        validate_secret_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _create(tx, request.spec))
        # Another try of the same request may have won while this one was in flight: then its secret holds the name.
        state = self._access.state
        id = written.result.id if written.result is not None else written.object_id
        stored = state.get(Secret, id) or next(iter(state.find(Secret, ByName(request.spec.name))), None)
        return _view(stored or _as_written(written.result, written.index, id))

    async def update(self, call: Call, request: UpdateSecret) -> SecretView:
        """Change labels. Raises `Invalid` for anything else that is changed, `NotFound`, `Conflict` for another
        version."""
        require_id(request.id, NOUN)
        written = await self._access.write(call, request, lambda tx: _update(tx, request))
        stored = self._access.state.get(Secret, request.id)
        return _view(stored or _as_written(written.result, written.index, request.id))

    async def remove(self, call: Call, request: RemoveObject) -> Removed:
        """Raises `Invalid`, `NotFound`, `FailedPrecondition` while a service or a live task refers to it."""
        require_id(request.id, NOUN)
        written = await self._access.write(call, request, lambda tx: _remove(tx, request.id))
        return Removed(id=request.id, version=written.index)


def _create(tx: Transaction, spec: SecretSpec) -> Secret:
    """The first secret makes the key that seals it. The cluster is claimed: no payload is sealed under a key that was
    replaced meanwhile."""
    check_name_is_free(tx, Secret, spec.name, NOUN)
    cluster = _cluster(tx)
    if newest_key(cluster) is None:
        cluster = with_new_key(cluster, tx.rng.randbytes)
        tx.update(cluster)
    secret = sealed_secret(cluster, Secret(id=tx.new_id(), spec=spec), tx.rng.randbytes)
    tx.create(secret)
    return secret


def _update(tx: Transaction, request: UpdateSecret) -> Secret:
    old = found(tx.get(Secret, request.id), request.id, NOUN)
    check_version(old, request.version, NOUN)
    check_only_labels(old.spec, request.spec, NOUN)
    if request.spec.data and not hmac.compare_digest(request.spec.data, payload_of(_cluster(tx), old)):
        raise only_labels("data", NOUN)
    spec = replace(old.spec, labels=request.spec.labels)
    validate_relabelled(spec)
    if spec == old.spec:
        return old
    secret = replace(old, spec=spec)
    tx.update(secret)
    return secret


def _remove(tx: Transaction, id: str) -> str:
    secret = found(tx.get(Secret, id), id, NOUN)
    check_is_unused(tx, secret, NOUN)
    tx.remove(Table.SECRET, id)
    return id


def _cluster(tx: Transaction) -> Cluster:
    cluster = tx.cluster()
    if cluster is None:
        raise Unavailable("this manager has not received the swarm's state yet", hint="try again in a moment")
    return cluster


def _as_written(secret: Secret | None, index: int, id: str) -> Secret:
    """The secret as this write left it, when somebody removed it right after."""
    if secret is None:
        raise NotFound(f"secret {id} was written and has been removed since")
    return replace(secret, meta=replace(secret.meta, version=index))


def _view(secret: Secret) -> SecretView:
    return SecretView(secret=redact.without_secrets(secret))
