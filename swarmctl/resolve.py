"""From what the user typed to the object: exact id, else exact name, else unique id prefix (reference 3.1).

Tasks also by `service.slot` and `service.slot.id`; nodes also as `self` and `leader`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from swarmctl.client import Client
from swarmd.errors import DeadlineExceeded, Invalid, NotFound, ResourceExhausted, Unavailable
from swarmd.model import ID_ALPHABET, ID_LENGTH, Cluster, Node, Task, TaskState, is_id
from swarmd.wire.cluster import ClusterView, GetCluster
from swarmd.wire.control import (
    GetObject,
    ListNodes,
    ListServices,
    ListTasks,
    NodeView,
    ServiceView,
)
from swarmd.wire.methods import (
    CLUSTER_GET,
    CONFIG_LIST,
    NETWORK_LIST,
    NODE_GET,
    NODE_LIST,
    SECRET_LIST,
    SERVICE_LIST,
    TASK_LIST,
)
from swarmd.wire.networks import NetworkView
from swarmd.wire.payloads import ConfigView, ListPayloads, SecretView

T = TypeVar("T")

CANDIDATES_SHOWN_MAX: Final = 5


def node_name(node: Node) -> str:
    """How a node is called: its name, else its hostname, else its id."""
    return node.spec.name or node.description.hostname or node.id


def task_name(task: Task) -> str:
    """`service.slot`, or `service.nodeid` where there are no slots."""
    return f"{task.service_name}.{task.slot or task.node_id}"


def find_node(client: Client, reference: str) -> NodeView:
    """Raises `Invalid` (empty, ambiguous), `NotFound`, `Unavailable` (`leader` while there is none)."""
    if reference in ("self", "leader"):
        return client.read(NODE_GET, GetObject(id=_named_by_role(client, reference)))
    return _choose(
        "node",
        reference,
        by_prefix=lambda text: client.read(NODE_LIST, ListNodes(id_prefixes=(text,))).nodes,
        by_name=lambda text: client.read(NODE_LIST, ListNodes(names=(text,))).nodes,
        everything=lambda: client.read(NODE_LIST, ListNodes()).nodes,
        id_of=lambda view: view.node.id,
        names_of=lambda view: tuple(filter(None, (view.node.spec.name, view.node.description.hostname))),
    )


def find_service(client: Client, reference: str) -> ServiceView:
    """Raises `Invalid` (empty, ambiguous), `NotFound`."""
    return _choose(
        "service",
        reference,
        by_prefix=lambda text: client.read(SERVICE_LIST, ListServices(id_prefixes=(text,))).services,
        by_name=lambda text: client.read(SERVICE_LIST, ListServices(names=(text,))).services,
        everything=lambda: client.read(SERVICE_LIST, ListServices()).services,
        id_of=lambda view: view.service.id,
        names_of=lambda view: (view.service.spec.name,),
    )


def find_task(client: Client, reference: str) -> Task:
    """`service.slot` is the slot's task that should run, else its newest. Raises `Invalid`, `NotFound`."""
    if "." in reference:
        return _task_of_slot(client, reference)
    return _choose(
        "task",
        reference,
        by_prefix=lambda text: client.read(TASK_LIST, ListTasks(id_prefixes=(text,))).tasks,
        by_name=lambda text: (),
        everything=lambda: (),
        id_of=lambda task: task.id,
        names_of=lambda task: (task_name(task),),
    )


def find_secret(client: Client, reference: str) -> SecretView:
    """Raises `Invalid` (empty, ambiguous), `NotFound`."""
    return _choose(
        "secret",
        reference,
        by_prefix=lambda text: client.read(SECRET_LIST, ListPayloads(id_prefixes=(text,))).secrets,
        by_name=lambda text: client.read(SECRET_LIST, ListPayloads(names=(text,))).secrets,
        everything=lambda: client.read(SECRET_LIST, ListPayloads()).secrets,
        id_of=lambda view: view.secret.id,
        names_of=lambda view: (view.secret.spec.name,),
    )


def find_config(client: Client, reference: str) -> ConfigView:
    """Without its payload. Raises `Invalid` (empty, ambiguous), `NotFound`."""
    return _choose(
        "config",
        reference,
        by_prefix=lambda text: client.read(CONFIG_LIST, ListPayloads(id_prefixes=(text,))).configs,
        by_name=lambda text: client.read(CONFIG_LIST, ListPayloads(names=(text,))).configs,
        everything=lambda: client.read(CONFIG_LIST, ListPayloads()).configs,
        id_of=lambda view: view.config.id,
        names_of=lambda view: (view.config.spec.name,),
    )


def find_network(client: Client, reference: str) -> NetworkView:
    """Raises `Invalid` (empty, ambiguous), `NotFound`."""
    return _choose(
        "network",
        reference,
        by_prefix=lambda text: client.read(NETWORK_LIST, ListPayloads(id_prefixes=(text,))).networks,
        by_name=lambda text: client.read(NETWORK_LIST, ListPayloads(names=(text,))).networks,
        everything=lambda: client.read(NETWORK_LIST, ListPayloads()).networks,
        id_of=lambda view: view.network.id,
        names_of=lambda view: (view.network.spec.name,),
    )


def find_cluster(client: Client, reference: str) -> Cluster:
    """See `find_cluster_view`."""
    return find_cluster_view(client, reference).cluster


def find_cluster_view(client: Client, reference: str) -> ClusterView:
    """The one cluster, by its id, name or id prefix. Raises `NotFound`."""
    view = client.read(CLUSTER_GET, GetCluster())
    cluster = view.cluster
    if reference == cluster.spec.name or (reference and cluster.id.startswith(reference)):
        return view
    raise NotFound(f'cluster "{reference}" not found', hint=f'the cluster is named "{cluster.spec.name}"')


class Names:
    """Names for ids, asked for once and only when needed. An id that nobody knows, or that nobody answers for, stays an
    id: a table without names is better than none."""

    def __init__(self, client: Client, *, no_resolve: bool) -> None:
        self._client = client
        self._no_resolve = no_resolve
        self._nodes: dict[str, str] | None = None

    def node(self, id: str) -> str:
        """What to print for a node."""
        if self._no_resolve or not id:
            return id
        if self._nodes is None:
            self._nodes = self._node_names()
        return self._nodes.get(id, id)

    def service(self, task: Task) -> str:
        """What to print for a task's service."""
        return task.service_id if self._no_resolve else task.service_name or task.service_id

    def _node_names(self) -> dict[str, str]:
        try:
            views = self._client.read(NODE_LIST, ListNodes()).nodes
        except (Unavailable, DeadlineExceeded, ResourceExhausted):
            return {}
        return {view.node.id: node_name(view.node) for view in views}


def _named_by_role(client: Client, word: str) -> str:
    status = client.status()
    if word == "self":
        return status.node_id
    if not status.leader_node_id:
        raise Unavailable("no leader is known at the moment", hint="swarmctl status")
    return status.leader_node_id


def _task_of_slot(client: Client, reference: str) -> Task:
    name, _, rest = reference.partition(".")
    slot, _, prefix = rest.partition(".")
    service = find_service(client, name).service
    tasks = [
        task
        for task in client.read(TASK_LIST, ListTasks(service_ids=(service.id,))).tasks
        if slot == str(task.slot or task.node_id) and task.id.startswith(prefix)
    ]
    if not tasks:
        raise NotFound(f'task "{reference}" not found', hint=f"swarmctl task ls --service {service.spec.name}")
    if prefix and len(tasks) > 1:
        raise _ambiguous("task", reference, [(task.id, task_name(task)) for task in tasks])
    tasks.sort(key=lambda task: (task.desired_state > TaskState.COMPLETE, -task.meta.created_at))
    return tasks[0]


def _choose(
    kind: str,
    reference: str,
    *,
    by_prefix: Callable[[str], Sequence[T]],
    by_name: Callable[[str], Sequence[T]],
    everything: Callable[[], Sequence[T]],
    id_of: Callable[[T], str],
    names_of: Callable[[T], tuple[str, ...]],
) -> T:
    if not reference:
        raise Invalid(f"a {kind}'s name or id is missing")
    if is_id(reference) and (exact := by_prefix(reference)):
        return exact[0]
    named = by_name(reference)
    same_case = [found for found in named if reference in names_of(found)]
    found = same_case or named or (by_prefix(reference) if _may_be_prefix(reference) else ())
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(kind, reference, [(id_of(item), (names_of(item) or ("",))[0]) for item in found])
    raise _not_found(kind, reference, [name for item in everything() for name in names_of(item)])


def _may_be_prefix(text: str) -> bool:
    return len(text) < ID_LENGTH and all(character in ID_ALPHABET for character in text)


def _ambiguous(kind: str, reference: str, candidates: Sequence[tuple[str, str]]) -> Invalid:
    shown = [f"{id} ({name})" if name else id for id, name in candidates[:CANDIDATES_SHOWN_MAX]]
    more = len(candidates) - len(shown)
    return Invalid(
        f'{kind} "{reference}" is ambiguous ({len(candidates)} matches)',
        hint="one of " + ", ".join(shown) + (f" and {more} more" if more else ""),
    )


def _not_found(kind: str, reference: str, names: Sequence[str]) -> NotFound:
    from difflib import get_close_matches  # only where something went wrong

    near = get_close_matches(reference, names, n=1)
    listing = f"swarmctl {kind} ls"
    return NotFound(
        f'{kind} "{reference}" not found', hint=f'did you mean "{near[0]}"?   ({listing})' if near else listing
    )
