"""What happened, in a line: when, to what, what was done, how it is now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from swarmctl.follow import Transaction
from swarmctl.render.plain import plain
from swarmctl.render.text import instant, one_line
from swarmctl.resolve import node_name
from swarmd.model import Node, Replicated, Service, StoredObject, Task, TaskState
from swarmd.wire.watch import WatchedEvent, stored_object


def event_name(event: WatchedEvent) -> str:
    """How users call the object; its id if it has no name."""
    return _name(stored_object(event.kind, event.object))


def event_document(transaction: Transaction, event: WatchedEvent, remaining: int) -> Any:
    """An event as plain data. Once `remaining` is 0, nothing of this version is missing, and `--since` may name it."""
    object = stored_object(event.kind, event.object)
    document = {
        "version": transaction.version,
        "remaining": remaining,
        "at": instant(transaction.at),
        "kind": event.kind,
        "action": event.action.value,
        "has_left": event.has_left,
        "id": object.id,
        "name": _name(object),
        "object": plain(object),
    }
    if event.old is not None:
        document["old"] = plain(stored_object(event.kind, event.old))
    return document


def event_line(transaction: Transaction, event: WatchedEvent, *, wide: bool = False) -> str:
    """`2026-11-27T07:04:11.512Z  task      update  web.1.leu9...  RUNNING on lyuh...`; wide: version and id, too."""
    object = stored_object(event.kind, event.object)
    told = _state(object)
    if event.old is not None and (before := _state(stored_object(event.kind, event.old))) != told:
        told = f"{before} -> {told}"
    if event.has_left:
        told += " (left the filter)"
    cells = [_time(transaction.at).ljust(24), event.kind.ljust(8), event.action.value.ljust(6), _name(object), told]
    if wide:
        cells = [str(transaction.version).ljust(8), *cells[:3], object.id, *cells[3:]]
    return one_line("  ".join(cells)).rstrip()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _name(object: StoredObject) -> str:
    if isinstance(object, Task):
        return object.name
    if isinstance(object, Node):
        return node_name(object)
    named = getattr(object, "spec", None) or getattr(object, "annotations", None)
    return getattr(named, "name", "") or object.id


def _state(object: StoredObject) -> str:
    """What a reader wants to know of it at a glance; nothing for what only is or is not there."""
    match object:
        case Task(status=status, desired_state=desired):
            told = status.state.name
            if desired is not TaskState.RUNNING:
                told += f", to be {desired.name}"
            if object.node_id:
                told += f" on {object.node_id}"
            return f"{told}: {status.err}" if status.err else told
        case Node(status=state, spec=spec):
            return f"{state.state.name} {spec.availability.name} {object.role.name}"
        case Service(spec=service):
            replicas = f"{service.mode.replicas} of " if isinstance(service.mode, Replicated) else ""
            return f"{replicas}{service.task.container.image}"
    return ""
