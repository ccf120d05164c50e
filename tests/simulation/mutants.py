"""Consensus with one promise broken each: what the simulator must find, or its silence says nothing.

Each is a context in which the product is wrong; the world is then lived with `factories`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import msgspec

from swarmd.model import TaskState, TaskStatus
from swarmd.raft import Configuration, Entry, Message, MessageType, RaftCore, ReadReady, Settings, SnapshotMeta
from swarmd.raft.leadership import Leadership
from swarmd.raft.outbox import Outbox
from swarmd.state.indexes import Holders
from swarmd.state.judge import Plan
from tests.simulation.state_machine import ContestedMachine, StateMachine


@dataclass(frozen=True)
class Mutant:
    """What is broken, and how many lives the simulator may need at most to notice."""

    name: str
    seeds_max: int
    broken: Callable[[], AbstractContextManager[Any]] = nullcontext
    factories: dict[str, Any] = field(default_factory=dict)


class VotesForShorterLogs(RaftCore):
    """Forgets Raft 5.4.1."""

    def _is_current(self, message: Message) -> bool:
        return True


class DropsAMember(RaftCore):
    """Its snapshots lack the member that came last."""

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        meta = super().snapshot_meta(index)
        members = meta.configuration.members
        rest = members[:-1] if len(members) > 1 else members
        configuration = Configuration(members=rest, removed=meta.configuration.removed)
        return msgspec.structs.replace(meta, configuration=configuration)


def forgets_its_vote(member_id: int, settings: Settings, rng: random.Random, **stored: Any) -> RaftCore:
    """The vote is not read back after a crash."""
    stored["hard_state"] = msgspec.structs.replace(stored["hard_state"], voted_for=0)
    return RaftCore(member_id, settings, rng, **stored)


def _greatest_match(self: Leadership) -> int:
    return max(self._progress[voter].match for voter in self._voters)


def _any_term(self: Leadership, index: int) -> bool:
    return True


def _acknowledge_at_once(self: Outbox) -> None:
    if self._ack is not None:
        target, term, index = self._ack
        self._ack = None
        kind = MessageType.APPEND_REPLY
        self._at_once.append(Message(type=kind, source=self._member_id, target=target, term=term, index=index))


def _answer_at_once(self: Leadership, source: int, context: int) -> None:
    index = self._log.commit
    if source == self._member_id:
        self.reads.append(ReadReady(context, index))
    else:
        term = self._log.term_of(index) or 0
        self._post(MessageType.READ_INDEX_REPLY, source, index=index, log_term=term, context=context)


def _match_of_anybody(self: Leadership) -> int:
    matches = sorted((progress.match for progress in self._progress.values()), reverse=True)
    return matches[len(self._voters) // 2]


@contextmanager
def _nothing_is_judged_at_apply() -> Iterator[None]:
    with (
        patch.object(Plan, "_judge_base", lambda self, rows, id, held, base: None),
        patch.object(Plan, "_judge_uniqueness", lambda self: None),
        patch.object(Holders, "upholds", lambda self, claim: True),
    ):
        yield


@contextmanager
def _apply_depends_on_who_applies() -> Iterator[None]:
    """Each life of each member writes its own number into what it stores: neither clients nor running digests tell."""
    right = StateMachine.apply
    numbers = itertools.count()

    def wrong(self: StateMachine, entry: Entry) -> bool:
        took_effect = right(self, entry)
        own = self.__dict__.setdefault("own_number", float(next(numbers)))
        tasks = self.state._tables.tasks.objects
        for id in [id for id, task in tasks.items() if task.meta.version == entry.index]:
            tasks[id] = msgspec.structs.replace(tasks[id], status=TaskStatus(state=TaskState.COMPLETE, at=own))
        return took_effect

    with patch.object(StateMachine, "apply", wrong):
        yield


def _patched(owner: type, name: str, wrong: Callable[..., Any]) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(owner, name, wrong)


VOTES = {
    "voters": 5,
    "snapshot_every": 0,
    "election_ticks": 2,
    "aim_vote": 0.9,
    "aim_elected": 0.5,
    "duplication": 0.3,
    "slow_link": 0.1,
    "loss": 0.1,
}
"""Two candidates of one term, and a voter that dies once it has voted, while the other's request is on its way."""
LEARNERS = {
    "voters": 3,
    "change_every_ms": 150,
    "cut_every_ms": 400,
    "aim_commit": 0.3,
    "loss": 0.1,
    "slow_link": 0.05,
}
"""Learners that keep up where voters do not."""

MUTANTS = (
    Mutant("a vote is forgotten across a crash", 300, factories={"core_factory": forgets_its_vote, "weather": VOTES}),
    Mutant("a shorter log gets a vote", 100, factories={"core_factory": VotesForShorterLogs}),
    Mutant("a minority commits", 100, _patched(Leadership, "quorum_match", _greatest_match)),
    Mutant("an old term's entry is committed by counting", 100, _patched(Leadership, "may_commit", _any_term)),
    Mutant(
        "entries are acknowledged before they are durable", 300, _patched(Outbox, "_flush_ack", _acknowledge_at_once)
    ),
    Mutant("a snapshot drops a member", 100, factories={"core_factory": DropsAMember}),
    Mutant(
        "a learner counts in the quorum",
        300,
        _patched(Leadership, "quorum_match", _match_of_anybody),
        factories={"weather": LEARNERS},
    ),
    Mutant("a read is answered without confirming the lead", 100, _patched(Leadership, "read_index", _answer_at_once)),
    Mutant(
        "preconditions are judged by the proposer only",
        100,
        _nothing_is_judged_at_apply,
        factories={"machine_factory": ContestedMachine},
    ),
    Mutant(
        "what an entry does depends on who applies it",
        10,
        _apply_depends_on_who_applies,
        factories={"machine_factory": StateMachine},
    ),
)
