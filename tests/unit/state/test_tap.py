"""A tap hears of every entry once: what it did, or that it was refused; and of a state that came as a snapshot."""

from __future__ import annotations

import random
from typing import Any

from swarmd.model import RemovedNode
from swarmd.raft import SnapshotMeta
from swarmd.state.command import CommandId, Verdict, encode_command
from swarmd.state.snapshot import encode_snapshot
from swarmd.state.store import State
from swarmd.state.tap import Tap


class Heard:
    def __init__(self) -> None:
        self.entries: list[tuple[int, str, Verdict, list[Any], int]] = []
        self.restorations: list[tuple[int, int]] = []

    def applied(self, index: int, command: Any, outcome: Any, changes: Any, body_bytes: int) -> None:
        told = [(rows.table.name, old, new) for rows, old, new in changes]
        self.entries.append((index, command.actor, outcome.verdict, told, body_bytes))

    def restored(self, before: int, index: int) -> None:
        self.restorations.append((before, index))


def create(state: State, name: str) -> bytes:
    tx = state.begin(1.0, random.Random(1))
    tx.create(RemovedNode(id=name))
    return encode_command(tx.command(CommandId(1, b"", 1), actor="operator@n"))


def test_it_hears_of_what_was_applied_refused_and_restored() -> None:
    state = State()
    heard: Tap = Heard()
    state.tap = heard
    body = create(state, "a")
    state.apply(1, 1, body)
    state.skip(2, b"")
    state.apply(3, 1, body)
    assert isinstance(heard, Heard)
    (first, refused) = heard.entries
    assert (first[0], first[1], first[2], first[4]) == (1, "operator@n", Verdict.APPLIED, len(body))
    assert first[3] == [("REMOVED_NODE", None, state.removed_node("a"))]
    assert (refused[0], refused[2], refused[3]) == (3, Verdict.CONFLICT, [])

    follower = State()
    follower.tap = other = Heard()
    meta = SnapshotMeta(index=3, term=1)
    follower.restore(meta, encode_snapshot(state.capture(), meta))
    assert other.restorations == [(0, 3)]
