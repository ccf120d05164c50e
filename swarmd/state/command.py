"""A transaction as a log entry: a command with preconditions, judged when it is applied, on every replica alike.

On the wire: CBOR map `{v, id, term?, key?, actor, claims, changes}`; each change is an array that begins with its tag.
Append-only. See DESIGN.md.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from swarmd.model import StoredObject, TaskStatus


class Table(IntEnum):
    """The kinds of object (SwarmKit's StoreAction tags where it has them)."""

    NODE = 2
    SERVICE = 3
    TASK = 4
    CLUSTER = 6
    REMOVED_NODE = 12


class Create(msgspec.Struct, frozen=True, gc=False):
    """Tag 0. The object must not exist."""

    object: StoredObject


class Update(msgspec.Struct, frozen=True, gc=False):
    """Tag 1. The object must exist at version `base`."""

    object: StoredObject
    base: int


class Remove(msgspec.Struct, frozen=True, gc=False):
    """Tag 2. The object must exist at version `base`."""

    table: Table
    id: str
    base: int


class Require(msgspec.Struct, frozen=True, gc=False):
    """Tag 3. The object must be at version `base` (0: must not exist)."""

    table: Table
    id: str
    base: int


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Tag 4. Compact: each task (id, base version, node id) gets its node and `status`."""

    items: tuple[tuple[str, int, str], ...]
    status: TaskStatus


class Report(msgspec.Struct, frozen=True, gc=False):
    """Tag 5. Compact: observed statuses merge monotonically, without a base version. A task that is gone, on another
    node than `node_id` (if that is set), or already further is skipped, deterministically."""

    node_id: str
    items: tuple[tuple[str, TaskStatus], ...]


class Advance(msgspec.Struct, frozen=True, gc=False):
    """Tag 6. Compact: each task (id, base version) gets `status`; the allocator's NEW -> PENDING."""

    items: tuple[tuple[str, int], ...]
    status: TaskStatus


Change = Create | Update | Remove | Require | Assign | Report | Advance


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The transaction relied on `key` of a unique or listing index being held by exactly `holders` (often none)."""

    index: str
    """`service.name`, `task.slot`, ...: see `state.tables`."""
    key: str
    holders: tuple[str, ...] = ()


class CommandId(msgspec.Struct, frozen=True, gc=False):
    """How a proposer recognises its own entry."""

    member_id: int
    boot_id: bytes
    sequence: int


class IdempotencyKey(msgspec.Struct, frozen=True, gc=False):
    """A client's key, bound to its request. `seen_index` is the applied index at the first try."""

    key: bytes
    request_sha256: bytes
    seen_index: int


class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry's body. `term` is set by leader loops: an entry of another term is refused."""

    v: int = 1
    id: CommandId
    actor: str
    at: float
    """The proposer's clock: becomes `meta.created_at` and `meta.updated_at`."""
    term: int = 0
    key: IdempotencyKey | None = None
    claims: tuple[Claim, ...] = ()
    changes: tuple[Change, ...] = ()


class Verdict(IntEnum):
    """What apply made of a command."""

    APPLIED = 0
    CONFLICT = 1
    WRONG_TERM = 2
    DUPLICATE = 3
    """The idempotency key was used before for the same request; `Outcome.index` is the entry that did it."""
    KEY_MISUSED = 4
    KEY_GONE = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verdict on one entry, the same on every replica."""

    verdict: Verdict
    index: int
    reason: str = ""
    """CONFLICT: what did not hold, for the log and for the error's text."""
    object_id: str = ""
    """The first created or updated object's id: what a DUPLICATE's caller is answered with."""


def encode_command(command: Command) -> bytes:
    """The entry's body."""
    raise NotImplementedError


def decode_command(body: bytes) -> Command:
    """The command in an entry's body. Raises `Invalid`: such an entry stops the node with a clear message."""
    raise NotImplementedError
