"""Services: create, read, replace, remove (reference api-and-cli 1.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from swarmd.allocator import with_ports
from swarmd.errors import AlreadyExists, Conflict, Invalid, NotFound, Unimplemented
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.dependencies import check_dependencies
from swarmd.manager.control_api.filters import check_size, has_name, has_prefix, prefixed
from swarmd.manager.control_api.references import check_given_to_tasks, require_referenced
from swarmd.manager.control_api.service_views import service_view
from swarmd.model import Service, validate_service_spec
from swarmd.orchestrator.revision import created, manual_rollback, updated
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import (
    CreateService,
    GetObject,
    ListServices,
    Removed,
    RemoveObject,
    ServiceList,
    ServiceView,
    UpdateService,
)
from swarmd.wire.methods import (
    SERVICE_CREATE,
    SERVICE_GET,
    SERVICE_LIST,
    SERVICE_REMOVE,
    SERVICE_ROLLBACK,
    SERVICE_UPDATE,
    Method,
)
from swarmd.wire.orchestration import RollbackService

ANY_SPEC_VERSION = -1


class ServiceHandlers:
    """Serves `service.*`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {
            SERVICE_LIST: self.list,
            SERVICE_GET: self.get,
            SERVICE_CREATE: self.create,
            SERVICE_UPDATE: self.update,
            SERVICE_ROLLBACK: self.rollback,
            SERVICE_REMOVE: self.remove,
        }

    async def get(self, call: Call, request: GetObject) -> ServiceView:
        """Raises `Invalid` for an empty id, `NotFound`."""
        _require_id(request.id)
        state = await self._access.read(call)
        service = state.service(request.id)
        if service is None:
            raise _not_found(request.id)
        return service_view(state, service)

    async def list(self, call: Call, request: ListServices) -> ServiceList:
        """By name, whatever the case. Raises `ResourceExhausted` if more match than one reply holds."""
        state = await self._access.read(call)
        services = [
            service
            for service in _candidates(state, request)
            if has_prefix(service.id, request.id_prefixes) and has_name(request.names, service.spec.name)
        ]
        services.sort(key=lambda service: (service.spec.name.casefold(), service.id))
        check_size(services, "services", "ask for some of them by name")
        return ServiceList(services=tuple(service_view(state, service) for service in services))

    async def create(self, call: Call, request: CreateService) -> ServiceView:
        """Raises `Invalid`, `AlreadyExists`. The spec is stored as it came."""
        validate_service_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _create(tx, request))
        # Another try of the same request may have won while this one was in flight: then its service holds the name.
        state = self._access.state
        id = written.result.id if written.result is not None else written.object_id
        stored = state.service(id) or state.service_by_name(request.spec.name)
        return service_view(state, stored or _as_written(written.result, written.index, id))

    async def update(self, call: Call, request: UpdateService) -> ServiceView:
        """Raises `Invalid`, `NotFound`, `Conflict` for another spec version, `Unimplemented` for another name."""
        _require_id(request.id)
        validate_service_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _update(tx, request))
        state = self._access.state
        stored = state.service(request.id)
        return service_view(state, stored or _as_written(written.result, written.index, request.id))

    async def rollback(self, call: Call, request: RollbackService) -> ServiceView:
        """Exchange the present and the previous spec: asked for twice, all is as before. It takes its way as an update
        does, by the rollback settings of the spec that comes back.

        Raises `Invalid`, `NotFound`, `Conflict` for another spec version, `FailedPrecondition` without a previous spec.
        """
        _require_id(request.id)
        written = await self._access.write(call, request, lambda tx: _rollback(tx, request))
        state = self._access.state
        stored = state.service(request.id)
        return service_view(state, stored or _as_written(written.result, written.index, request.id))

    async def remove(self, call: Call, request: RemoveObject) -> Removed:
        """The record goes at once; its tasks are stopped by the orchestrator. Raises `Invalid`, `NotFound`."""
        _require_id(request.id)
        written = await self._access.write(call, request, lambda tx: _remove(tx, request.id))
        return Removed(id=request.id, version=written.index)


def _create(tx: Transaction, request: CreateService) -> Service:
    require_referenced(tx, request.spec)
    check_given_to_tasks(request.spec)
    name = request.spec.name
    if tx.service_by_name(name) is not None:
        raise AlreadyExists(f'a service named "{name}" exists already', hint=f"swarmctl service update {name} ...")
    check_dependencies(tx, request.spec)
    service = with_ports(tx, created(tx.new_id(), request.spec, tx.now))
    tx.create(service)
    return service


def _update(tx: Transaction, request: UpdateService) -> Service:
    old = _at_version(tx, request.id, request.spec_version)
    require_referenced(tx, request.spec)
    check_given_to_tasks(request.spec)
    if request.spec.name != old.spec.name:
        raise Unimplemented("a service cannot be renamed", field="$.name", hint="create another and remove this one")
    if type(request.spec.mode) is not type(old.spec.mode):
        raise Unimplemented(
            "service mode change is not allowed", field="$.mode", hint="create another and remove this one"
        )
    if request.spec.depends_on != old.spec.depends_on:
        check_dependencies(tx, request.spec)
    service = with_ports(tx, updated(old, request.spec, tx.now))
    if service is not old:
        tx.update(service)
    return service


def _rollback(tx: Transaction, request: RollbackService) -> Service:
    service = with_ports(tx, manual_rollback(_at_version(tx, request.id, request.spec_version), tx.now))
    require_referenced(tx, service.spec)
    tx.update(service)
    return service


def _at_version(tx: Transaction, id: str, spec_version: int) -> Service:
    """The service, if its spec is still the one that the caller read."""
    service = tx.service(id)
    if service is None:
        raise _not_found(id)
    if spec_version not in (ANY_SPEC_VERSION, service.spec_version):
        raise Conflict(
            f"update out of sequence: the spec is at version {service.spec_version}, not {spec_version}",
            object=f"service {service.spec.name}",
            hint="somebody else changed it; read it again and repeat what you want",
        )
    return service


def _remove(tx: Transaction, id: str) -> str:
    if tx.service(id) is None:
        raise _not_found(id)
    tx.remove(Table.SERVICE, id)
    return id


def _as_written(service: Service | None, index: int, id: str) -> Service:
    """The service as this write left it, when somebody removed it right after."""
    if service is None:
        raise NotFound(f"service {id} was written and has been removed since")
    return replace(service, meta=replace(service.meta, version=index))


def _candidates(state: State, request: ListServices) -> Iterable[Service]:
    if request.id_prefixes:
        return [found for found in prefixed(state, Table.SERVICE, request.id_prefixes) if isinstance(found, Service)]
    return state.services()


def _require_id(id: str) -> None:
    if not id:
        raise Invalid("a service's id is missing", field="$.id")


def _not_found(id: str) -> NotFound:
    return NotFound(f"service {id} not found", hint="swarmctl service ls")
