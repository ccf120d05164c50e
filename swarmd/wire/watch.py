"""Following what happens: which events a client wants, and how they are told.

Objects travel as maps of their fields, so that a client which does not know a later kind can still pass it on;
`stored_object` makes the model's object of one.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, get_args

import msgspec

from swarmd.errors import Unimplemented
from swarmd.model import Membership, NodeState, Role, StoredObject, TaskState
from swarmd.wire.codec import convert


class Action(StrEnum):
    """What happened to an object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"


KINDS: Final[dict[str, type[StoredObject]]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type_.__name__).lower(): type_ for type_ in get_args(StoredObject)
}
"""`node`, `service`, `removed_node` ...: every kind of object there is, as it is called in a request."""


class WatchEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Events of one kind of object that fit every filter given; a filter that the kind does not have is refused.

    Names are compared whatever their case. A node's name is its own or its hostname, a task's may be `service.slot.id`.
    """

    kind: str
    actions: tuple[str, ...] = ()
    """Empty: every action."""
    id: str = ""
    id_prefix: str = ""
    name: str = ""
    name_prefix: str = ""
    hostname: str = ""
    """Nodes only, like the next three."""
    role: Role | None = None
    membership: Membership | None = None
    state: NodeState | None = None
    service_id: str = ""
    """Tasks only, like what follows."""
    node_id: str = ""
    slot: int | None = None
    """Of the service that `service_id` names."""
    desired_state: TaskState | None = None
    network_id: str = ""
    """Tasks and services that refer to it, like the next two."""
    secret_id: str = ""
    config_id: str = ""
    resource_kind: str = ""
    """Resources only."""
    index: str = ""
    """A custom index that the object has an entry in: any, or with `index_value`, or one that begins so."""
    index_value: str = ""
    index_prefix: str = ""


class WatchRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Follow what fits one of `entries`; without any, everything.

    `after` is a version: what later entries of the log did. None: from now on.
    """

    entries: tuple[WatchEntry, ...] = ()
    after: int | None = None
    include_old: bool = False


class WatchedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object changed. `object` is how it is now, or was when it was removed; `old` only if asked for."""

    kind: str
    action: Action
    object: dict[str, Any]
    old: dict[str, Any] | None = None
    has_left: bool = False
    """It fitted the filters before this update and no longer does: whoever keeps a copy drops it."""


class WatchMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The events of one transaction, in the order of its changes, or a part of them.

    The first message has no events and says from where the watch runs (`version`) and who serves it (`node_id`). A
    message without events later on says that nothing else happened up to `version`.
    """

    version: int
    """The log entry that did it: `after` of a request that goes on behind it, on any manager."""
    at: float = 0.0
    """When, by the clock of the manager that led."""
    events: tuple[WatchedEvent, ...] = ()
    is_partial: bool = False
    """More of the same transaction follows: the version is complete with the first message that is not partial."""
    node_id: str = ""


def stored_object(kind: str, fields: dict[str, Any]) -> StoredObject:
    """The model's object. Raises `Unimplemented` for a kind that this program does not know, `Invalid`."""
    type_ = KINDS.get(kind)
    if type_ is None:
        raise Unimplemented(f"objects of kind {kind!r} are unknown to this program", hint="use a newer one")
    return convert(fields, type_)
