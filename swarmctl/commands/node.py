"""`node ls`, `inspect`, `promote`, `demote`, `drain`, `pause`, `activate`, `renew`, `rm`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.commands import admission, node_edit
from swarmctl.commands.node_edit import edit_node
from swarmctl.invocation import Invocation
from swarmctl.kinds import NODE
from swarmctl.quorum import change_in_words, count_managers, warning
from swarmctl.render.nodes import node_list, node_summary
from swarmctl.render.tasks import is_current, task_table
from swarmctl.resolve import Names, find_node, node_name
from swarmctl.show import show_changed, show_list, show_one
from swarmctl.verbs import group, verb
from swarmctl.wait import Progress, Waiter, WaitOptions
from swarmd.model import Availability, IssuanceState, NodeCertificate, NodeSpec, NodeState, Role, TaskState
from swarmd.wire.control import (
    GetObject,
    ListNodes,
    ListTasks,
    RemoveNode,
)
from swarmd.wire.methods import NODE_GET, NODE_LIST, NODE_REMOVE, NODE_RENEW, TASK_LIST

app = group("node", "The machines.")

NodeArgument = Annotated[str, typer.Argument(help="Its name, hostname, id or id prefix; self; leader.")]
NodeArguments = Annotated[list[str], typer.Argument(help="Names, hostnames, ids or id prefixes; self; leader.")]
Probe = Callable[[Client, str], Progress]


@verb(app, "ls", "list")
def ls(call: Invocation) -> None:
    """List nodes."""
    with call.client() as client:
        views = client.read(NODE_LIST, ListNodes()).nodes
    show_list(call, NODE, views, lambda wide: node_list(views, wide=wide))


@verb(app, "inspect")
def inspect(
    call: Invocation,
    node: NodeArgument,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also tasks that should no longer run.")] = False,
) -> None:
    """Show a node and its tasks."""
    with call.client() as client:
        view = find_node(client, node)

        def text() -> str:
            tasks = client.read(TASK_LIST, ListTasks(node_ids=(view.node.id,))).tasks
            shown = [task for task in tasks if everything or is_current(task)]
            table = task_table(shown, Names(client, no_resolve=call.no_resolve), call.environment.now())
            return node_summary(view, call.environment.now()) + (f"\n{table}" if shown else "")

        show_one(call, NODE, view, text)


@verb(app, "promote")
def promote(call: Invocation, nodes: NodeArguments, waiting: WaitOptions) -> int:
    """Make workers managers."""
    return _edit_all(call, nodes, waiting, "a manager", _to_role(Role.MANAGER), _is_member, voters=1)


@verb(app, "demote")
def demote(
    call: Invocation,
    nodes: NodeArguments,
    waiting: WaitOptions,
    *,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Even if it cannot be carried out before others are back.")
    ] = False,
) -> int:
    """Make managers workers. Refused where it would cost the quorum."""
    return _edit_all(call, nodes, waiting, "a worker", _to_role(Role.WORKER), _is_worker, voters=-1, force=force)


@verb(app, "drain")
def drain(call: Invocation, nodes: NodeArguments, waiting: WaitOptions) -> int:
    """Move all tasks elsewhere and place none."""
    return _edit_all(call, nodes, waiting, "drained", _to_availability(Availability.DRAIN), _is_empty)


@verb(app, "pause")
def pause(call: Invocation, nodes: NodeArguments, waiting: WaitOptions) -> int:
    """Place nothing new; what runs stays."""
    return _edit_all(call, nodes, waiting, "paused", _to_availability(Availability.PAUSE), None)


@verb(app, "activate")
def activate(call: Invocation, nodes: NodeArguments, waiting: WaitOptions) -> int:
    """Place tasks again."""
    return _edit_all(call, nodes, waiting, "active", _to_availability(Availability.ACTIVE), None)


@verb(app, "renew")
def renew(call: Invocation, nodes: NodeArguments, waiting: WaitOptions) -> int:
    """Have nodes get another certificate now. Their tasks run on."""
    waiter = Waiter(call, waiting)
    with call.client() as client:

        def tell(reference: str) -> None:
            view = find_node(client, reference)
            id = view.node.id
            told = client.change(NODE_RENEW, GetObject(id=id))
            show_changed(call, NODE, told)
            before = view.node.certificate
            waiter.until(client, f"node {node_name(view.node)}", lambda client: _is_renewed(client, id, before))

        return call.for_each(nodes, tell)


@verb(app, "rm", "remove")
def rm(
    call: Invocation,
    nodes: NodeArguments,
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Even if it is up.")] = False,
) -> int:
    """Remove nodes for good: their certificates are refused from then on."""
    with call.client() as client:

        def remove(reference: str) -> None:
            view = find_node(client, reference)
            call.line(client.change(NODE_REMOVE, RemoveNode(id=view.node.id, force=force)).id)

        return call.for_each(nodes, remove)


admission.register(app)
node_edit.register(app)


def _edit_all(
    call: Invocation,
    references: list[str],
    waiting: WaitOptions,
    goal: str,
    wanted: Callable[[NodeSpec], NodeSpec],
    probe: Probe | None,
    *,
    voters: int = 0,
    force: bool = False,
) -> int:
    """Edit each node. `voters` is what each adds to the managers that vote."""
    waiter = Waiter(call, waiting)
    with call.client() as client:

        def edit(reference: str) -> None:
            before = count_managers(client.read(NODE_LIST, ListNodes()).nodes) if voters else 0
            view, changed = edit_node(client, reference, wanted, force=force)
            id = view.node.id
            if not changed:
                call.note(f"node {node_name(view.node)} is already {goal}")
            elif voters:
                _tell_of_quorum(call, before, before + voters)
            show_changed(call, NODE, view)
            if probe is not None:
                waiter.until(client, f"node {node_name(view.node)}", lambda client: probe(client, id))

        return call.for_each(references, edit)


def _tell_of_quorum(call: Invocation, before: int, after: int) -> None:
    call.note(change_in_words(before, after))
    if caution := warning(before, after):
        call.note(caution)


def _to_role(role: Role) -> Callable[[NodeSpec], NodeSpec]:
    return lambda spec: replace(spec, desired_role=role)


def _to_availability(availability: Availability) -> Callable[[NodeSpec], NodeSpec]:
    return lambda spec: replace(spec, availability=availability)


def _is_member(client: Client, id: str) -> Progress:
    view = client.read(NODE_GET, GetObject(id=id))
    if view.manager is None:
        return Progress(done=False, text="waiting for its certificate and for it to join the managers")
    if not view.manager.is_voter:
        return Progress(done=False, text="a learner, catching up")
    return Progress(done=True, text="a manager")


def _is_worker(client: Client, id: str) -> Progress:
    view = client.read(NODE_GET, GetObject(id=id))
    if view.manager is not None:
        return Progress(done=False, text="leaving the managers")
    done = view.node.role is Role.WORKER
    return Progress(done=done, text="a worker" if done else "waiting for its certificate")


def _is_renewed(client: Client, id: str, before: NodeCertificate) -> Progress:
    node = client.read(NODE_GET, GetObject(id=id)).node
    now = node.certificate
    if now.state is IssuanceState.FAILED:
        reason = f"its request was refused: {now.error or 'no reason was given'}"
        return Progress(done=False, text=reason, stuck=reason)
    if now.state is not IssuanceState.ISSUED or (now.fingerprint, now.expires_at) == (
        before.fingerprint,
        before.expires_at,
    ):
        is_up = node.status.state is NodeState.READY
        return Progress(done=False, text="waiting for it to ask" if is_up else "waiting for it to come back")
    if now.fingerprint and node.status.certificate != now.fingerprint:
        return Progress(done=False, text="waiting to see it with its new certificate")
    return Progress(done=True, text="renewed")


def _is_empty(client: Client, id: str) -> Progress:
    tasks = client.read(TASK_LIST, ListTasks(node_ids=(id,))).tasks
    left = sum(TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING for task in tasks)
    return Progress(done=not left, text=f"{left} task{'' if left == 1 else 's'} left")
