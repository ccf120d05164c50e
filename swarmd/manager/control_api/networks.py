"""Networks: create, read with how full they are, remove. What they are given is chosen in the transaction.

Sources: reference api-and-cli 1.6, orchestration 8.5; SwarmKit `manager/controlapi/network.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from swarmd.allocator.books import Holding, SubnetUsage, holdings_of, usage_of
from swarmd.allocator.networks import allocated, is_ingress
from swarmd.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.filters import check_size
from swarmd.manager.control_api.payloads import enumerated, listed, require_id
from swarmd.model import Network, NetworkSpec, PublishMode, Service, Task, TaskState, validate_network_spec
from swarmd.state.command import Table
from swarmd.state.selectors import All, ByName, ByReferencedNetwork
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import GetObject, Removed, RemoveObject
from swarmd.wire.methods import NETWORK_CREATE, NETWORK_GET, NETWORK_LIST, NETWORK_REMOVE, Method
from swarmd.wire.networks import CreateNetwork, NetworkList, NetworkView, SubnetUse
from swarmd.wire.payloads import ListPayloads

NOUN: Final = "network"
_COUNT_MAX: Final = 1 << 53
"""What every reader of JSON can count to; a subnet of IPv6 has more."""


class NetworkHandlers:
    """Serves `network.*`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {
            NETWORK_LIST: self.list,
            NETWORK_GET: self.get,
            NETWORK_CREATE: self.create,
            NETWORK_REMOVE: self.remove,
        }

    async def get(self, call: Call, request: GetObject) -> NetworkView:
        """Raises `Invalid` for an empty id, `NotFound`."""
        require_id(request.id, NOUN)
        state = await self._access.read(call)
        network = state.get(Network, request.id)
        if network is None:
            raise _not_found(request.id)
        return _view(state, network, _holdings(state))

    async def list(self, call: Call, request: ListPayloads) -> NetworkList:
        """By name. Raises `Invalid`, `ResourceExhausted` if more match than one reply holds."""
        state = await self._access.read(call)
        found = listed(state, Network, request)
        holdings = _holdings(state) if found else {}
        views = tuple(_view(state, network, holdings) for network in found)
        check_size(views, "networks", "ask for some of them by name")
        return NetworkList(networks=views)

    async def create(self, call: Call, request: CreateNetwork) -> NetworkView:
        """Raises `Invalid`, `AlreadyExists` (name, subnet, ingress network), `FailedPrecondition` for a predefined name
        or while a manager does not know networks, `ResourceExhausted` if no subnet is left."""
        validate_network_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _create(tx, request.spec))
        # Another try of the same request may have won while this one was in flight: then its network holds the name.
        state = self._access.state
        id = written.result.id if written.result is not None else written.object_id
        stored = state.get(Network, id) or next(iter(state.find(Network, ByName(request.spec.name))), None)
        holdings = _holdings(state) if written.result is None else {}  # a new one is empty
        return _view(state, stored or _as_written(written.result, written.index, id), holdings)

    async def remove(self, call: Call, request: RemoveObject) -> Removed:
        """Raises `Invalid`, `NotFound`, `FailedPrecondition` while a service or a live task is in it."""
        require_id(request.id, NOUN)
        written = await self._access.write(call, request, lambda tx: _remove(tx, request.id))
        return Removed(id=request.id, version=written.index)


def _create(tx: Transaction, spec: NetworkSpec) -> Network:
    others = tx.networks()
    if tx.find(Network, ByName(spec.name)):
        raise AlreadyExists(f'a network named "{spec.name}" exists already', hint="swarmctl network ls")
    cluster = tx.cluster(unchecked=True)
    if cluster is None:
        raise Unavailable("this manager has not received the swarm's state yet", hint="try again in a moment")
    network = allocated(tx.new_id(), spec, others, cluster.spec.networks)
    tx.create(network)
    return network


def _remove(tx: Transaction, id: str) -> str:
    network = tx.get(Network, id)
    if network is None:
        raise _not_found(id)
    _check_is_unused(tx, network)
    tx.remove(Table.NETWORK, id)
    return id


def _check_is_unused(tx: Transaction, network: Network) -> None:
    """Raise `FailedPrecondition` naming who is in it. Claims that nobody is; who publishes through the ingress network
    is only looked at, because publishing creates no such reference."""
    name = network.spec.name
    services = [service.spec.name for service in tx.find(Service, ByReferencedNetwork(network.id))]
    if services:
        raise FailedPrecondition(
            f'network "{name}" is in use by {enumerated(services)}', hint="remove these services, or their network"
        )
    tasks = [
        task
        for task in tx.find(Task, ByReferencedNetwork(network.id))
        if task.status.state <= TaskState.RUNNING and task.desired_state <= TaskState.RUNNING
    ]
    if tasks:
        raise FailedPrecondition(
            f'network "{name}" is in use by task {tasks[0].name}' + (f" and {n} more" if (n := len(tasks) - 1) else ""),
            hint="try again once they have stopped",
        )
    if is_ingress(network):
        publishing = [service.spec.name for service in tx.find(Service, All(), unchecked=True) if _publishes(service)]
        if publishing:
            raise FailedPrecondition(
                f"ingress network cannot be removed because {enumerated(publishing)} depend on it",
                hint="remove these services, or their published ports",
            )


def _publishes(service: Service) -> bool:
    return any(port.publish_mode is PublishMode.INGRESS for port in service.spec.endpoint.ports)


# -- views -------------------------------------------------------------------------------------------------------------
def _holdings(state: State) -> dict[str, list[Holding]]:
    """By network. Looks at every object."""
    found: dict[str, list[Holding]] = {}
    everything: tuple[Iterable[Any], ...] = (
        state.services(),
        [task for task in state.tasks() if task.networks],
        state.nodes(),
    )
    for objects in everything:
        for object in objects:
            for holding in holdings_of(object):
                found.setdefault(holding.network_id, []).append(holding)
    return found


def _view(state: State, network: Network, holdings: dict[str, list[Holding]]) -> NetworkView:
    usage = usage_of(network, holdings.get(network.id, ()))
    return NetworkView(
        network=network,
        usage=tuple(_use(subnet) for subnet in usage),
        services=len(state.find(Service, ByReferencedNetwork(network.id))),
        warnings=tuple(
            f"{subnet.used} of {subnet.total} addresses of {subnet.subnet} are in use"
            for subnet in usage
            if subnet.is_scarce
        ),
    )


def _use(subnet: SubnetUsage) -> SubnetUse:
    return SubnetUse(
        subnet=subnet.subnet,
        used=min(subnet.used, _COUNT_MAX),
        total=min(subnet.total, _COUNT_MAX),
        is_scarce=subnet.is_scarce,
    )


def _as_written(network: Network | None, index: int, id: str) -> Network:
    """The network as this write left it, when somebody removed it right after."""
    if network is None:
        raise NotFound(f"network {id} was written and has been removed since")
    return replace(network, meta=replace(network.meta, version=index))


def _not_found(id: str) -> NotFound:
    return NotFound(f"network {id} not found", hint="swarmctl network ls")
