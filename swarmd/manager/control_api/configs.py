"""Configs: create, read with the payload, relabel, remove.

Sources: reference api-and-cli 1.8, security 7.1; SwarmKit `manager/controlapi/config.go`.
"""

from __future__ import annotations

import hmac
from typing import Any

from msgspec.structs import replace

from swarmd.errors import NotFound
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
from swarmd.model import Config, ConfigSpec, validate_config_spec, validate_relabelled
from swarmd.state.command import Table
from swarmd.state.selectors import ByName
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import GetObject, Removed, RemoveObject
from swarmd.wire.methods import CONFIG_CREATE, CONFIG_GET, CONFIG_LIST, CONFIG_REMOVE, CONFIG_UPDATE, Method
from swarmd.wire.payloads import ConfigList, ConfigView, CreateConfig, ListPayloads, UpdateConfig

NOUN = "config"


class ConfigHandlers:
    """Serves `config.*`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {
            CONFIG_LIST: self.list,
            CONFIG_GET: self.get,
            CONFIG_CREATE: self.create,
            CONFIG_UPDATE: self.update,
            CONFIG_REMOVE: self.remove,
        }

    async def get(self, call: Call, request: GetObject) -> ConfigView:
        """With the payload. Raises `Invalid` for an empty id, `NotFound`."""
        require_id(request.id, NOUN)
        state = await self._access.read(call)
        return ConfigView(config=found(state.get(Config, request.id), request.id, NOUN))

    async def list(self, call: Call, request: ListPayloads) -> ConfigList:
        """By name, without payloads. Raises `Invalid`, `ResourceExhausted` if more match than one reply holds."""
        state = await self._access.read(call)
        views = tuple(ConfigView(config=redact.without_secrets(config)) for config in listed(state, Config, request))
        check_size(views, "configs", "ask for some of them by name")
        return ConfigList(configs=views)

    async def create(self, call: Call, request: CreateConfig) -> ConfigView:
        """Raises `Invalid`, `AlreadyExists`, `Unimplemented` for a template."""
        check_is_built(request.spec, NOUN)
        validate_config_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _create(tx, request.spec))
        # Another try of the same request may have won while this one was in flight: then its config holds the name.
        state = self._access.state
        id = written.result.id if written.result is not None else written.object_id
        stored = state.get(Config, id) or next(iter(state.find(Config, ByName(request.spec.name))), None)
        return ConfigView(config=stored or _as_written(written.result, written.index, id))

    async def update(self, call: Call, request: UpdateConfig) -> ConfigView:
        """Change labels. Raises `Invalid` for anything else that is changed, `NotFound`, `Conflict` for another
        version."""
        require_id(request.id, NOUN)
        written = await self._access.write(call, request, lambda tx: _update(tx, request))
        stored = self._access.state.get(Config, request.id)
        return ConfigView(config=stored or _as_written(written.result, written.index, request.id))

    async def remove(self, call: Call, request: RemoveObject) -> Removed:
        """Raises `Invalid`, `NotFound`, `FailedPrecondition` while a service or a live task refers to it."""
        require_id(request.id, NOUN)
        written = await self._access.write(call, request, lambda tx: _remove(tx, request.id))
        return Removed(id=request.id, version=written.index)


def _create(tx: Transaction, spec: ConfigSpec) -> Config:
    check_name_is_free(tx, Config, spec.name, NOUN)
    config = Config(id=tx.new_id(), spec=spec)
    tx.create(config)
    return config


def _update(tx: Transaction, request: UpdateConfig) -> Config:
    old = found(tx.get(Config, request.id), request.id, NOUN)
    check_version(old, request.version, NOUN)
    check_only_labels(old.spec, request.spec, NOUN)
    if request.spec.data and not hmac.compare_digest(request.spec.data, old.spec.data):
        raise only_labels("data", NOUN)
    spec = replace(old.spec, labels=request.spec.labels)
    validate_relabelled(spec)
    if spec == old.spec:
        return old
    config = replace(old, spec=spec)
    tx.update(config)
    return config


def _remove(tx: Transaction, id: str) -> str:
    config = found(tx.get(Config, id), id, NOUN)
    check_is_unused(tx, config, NOUN)
    tx.remove(Table.CONFIG, id)
    return id


def _as_written(config: Config | None, index: int, id: str) -> Config:
    """The config as this write left it, when somebody removed it right after."""
    if config is None:
        raise NotFound(f"config {id} was written and has been removed since")
    return replace(config, meta=replace(config.meta, version=index))
