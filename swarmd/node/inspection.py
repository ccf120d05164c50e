"""`swarmd raft dump` and `raft verify`: what a stopped manager's state directory holds. Blocking; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid, Locked
from swarmd.manager.dump import Line, Range, dump, dump_objects
from swarmd.manager.offline import NOT_COMMITTED, count_objects
from swarmd.node.identity import StateDirectory
from swarmd.node.offline_log import read_offline
from swarmd.node.unlocking import read_key_file
from swarmd.raft.quorum import failures_tolerated
from swarmd.storage.errors import StorageDamaged, StorageFailed

UNTOUCHED: Final = "nothing was changed"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found: all of it could be read, and means something."""

    node_id: str
    member_id: str
    first_index: int
    last_index: int
    last_term: int
    term: int
    commit: int
    snapshot_index: int
    state_index: int
    digest: str
    """Running digest at `state_index`: equal on every manager at the same index."""
    state_hash: str
    """Of all content, likewise."""
    voters: int
    learners: int
    objects: dict[str, int]


def dump_lines(state_dir: Path, range: Range, *, unredacted: bool, key_file: Path | None = None) -> Iterator[str]:
    """One JSON object a line. `key_file` holds the unlock key of a manager with autolock.

    Raises `FailedPrecondition` for a running daemon, no log, or damage, `Locked` also for a wrong key.
    """
    with _damage_is_an_answer(), read_offline(_unlocked(state_dir, key_file)) as log:
        for line in dump(log, range, unredacted=unredacted):
            yield _json(line)


def object_lines(state_dir: Path, *, up_to: int = 0, unredacted: bool, key_file: Path | None = None) -> Iterator[str]:
    """The objects that snapshot and log lead to, as of `up_to` (0: what is known to be committed), one JSON object a
    line. Raises as `dump_lines`."""
    with _damage_is_an_answer(), read_offline(_unlocked(state_dir, key_file)) as log:
        for line in dump_objects(log.replay(up_to or log.known_commit), unredacted=unredacted):
            yield _json(line)


def verify(state_dir: Path, *, up_to: int = 0, key_file: Path | None = None) -> Verified:
    """Check every seal, that the runs join, the snapshot's checksum, and replay up to `up_to` (0: to what is known to
    be committed). Raises as `dump_lines`."""
    with _damage_is_an_answer(), read_offline(_unlocked(state_dir, key_file)) as log:
        state = log.replay(up_to or log.known_commit)
        members = log.configuration().members
        stored = log.stored
        return Verified(
            node_id=log.identity.node_id,
            member_id=f"{log.identity.member_id:x}",
            first_index=stored.entries[0].index if stored.entries else 0,
            last_index=log.last_index,
            last_term=log.last_term,
            term=stored.hard_state.term,
            commit=log.known_commit,
            snapshot_index=stored.snapshot.index,
            state_index=state.index,
            digest=state.digest.hex(),
            state_hash=state.state_hash().hex(),
            voters=sum(m.is_voter for m in members),
            learners=sum(not m.is_voter for m in members),
            objects=count_objects(state),
        )


def report(found: Verified) -> str:
    """What `verify` prints for a reader."""
    behind = found.last_index - found.commit
    counts = ", ".join(f"{count} {kind}" for kind, count in found.objects.items() if count)
    lines = [
        ("log", f"sound: entries {found.first_index}..{found.last_index}, last term {found.last_term}"),
        ("member", f"{found.member_id} (node {found.node_id}), term {found.term}"),
        ("commit", f"{found.commit}" + (f"; {behind} later entries are {NOT_COMMITTED}" if behind else "")),
        ("snapshot", f"sound, at index {found.snapshot_index}" if found.snapshot_index else "none yet"),
        ("voters", f"{found.voters}; failures tolerated: {failures_tolerated(found.voters)}"),
        ("state", f"at index {found.state_index}: {counts or 'no objects'}"),
        ("digest", found.digest),
        ("hash", found.state_hash),
    ]
    return "".join(f"{key:<10}{value}\n" for key, value in lines)


def to_json(found: Verified) -> str:
    """What `verify -o json` prints."""
    return _json(msgspec.to_builtins(found)) + "\n"


def _json(line: Line) -> str:
    return json.dumps(line, ensure_ascii=True)


def _unlocked(state_dir: Path, key_file: Path | None) -> StateDirectory:
    directory = StateDirectory(state_dir)
    if key_file is not None and directory.keys.locked_for() is not None:
        try:
            directory.keys.unlock(read_key_file(key_file))
        except Invalid as error:
            raise Locked(error.message, hint=error.hint) from None
    directory.keys.refuse_if_locked()
    return directory


@contextmanager
def _damage_is_an_answer() -> Iterator[None]:
    """Damage is told in one line, like everything else that the operator has to know."""
    try:
        yield
    except StorageDamaged as error:
        hint = "do not start this manager: restore a backup, or let it join anew with an empty state directory"
        raise FailedPrecondition(f"damaged: {error}", hint=f"{hint}; {UNTOUCHED}") from error
    except StorageFailed as error:
        raise FailedPrecondition(str(error), hint=f"check the path and who owns the files; {UNTOUCHED}") from error
    except Invalid as error:
        raise FailedPrecondition(f"not readable: {error}", hint=error.hint or UNTOUCHED) from error
