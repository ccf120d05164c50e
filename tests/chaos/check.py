"""What a history must not show: pure, so that histories kept from a run can be judged again.

Registers hold unique numbers, so that a read names the write that it saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from tests.chaos.history import OK, REFUSED, UNKNOWN, Call, Held
from tests.simulation.linearize import FOREVER, Operation, linearizable

TICKS_PER_S = 1_000_000


def problems(history: Sequence[Call], held: Sequence[Held]) -> list[str]:
    """Every promise that was broken, in words; none, if all is well."""
    return [
        *_replicas_differ(history, held),
        *_lost_or_resurrected(history, held),
        *_wrong_versions(history, held),
        *_not_linearizable(history),
    ]


def _replicas_differ(history: Sequence[Call], held: Sequence[Held]) -> Iterator[str]:
    """At no index two digests, in the end one index, one digest, one content. A manager whose log is not open yet
    tells none."""
    digests: dict[int, tuple[str, int]] = {}
    seen = [(c.version, c.digest, c.manager) for c in history if c.kind == "status" and c.outcome == OK and c.version]
    for index, digest, manager in (*seen, *((h.index, h.digest, h.manager) for h in held)):
        first, whose = digests.setdefault(index, (digest, manager))
        if digest != first:
            yield f"at index {index} manager {manager} has the digest {digest}, and manager {whose} had {first}"
    for one, other in pairwise(held):
        if one.index != other.index:
            yield f"manager {one.manager} ended at index {one.index}, manager {other.manager} at {other.index}"
        elif (one.values, one.versions) != (other.values, other.versions):
            yield f"managers {one.manager} and {other.manager} hold different objects at index {one.index}"


def _lost_or_resurrected(history: Sequence[Call], held: Sequence[Held]) -> Iterator[str]:
    """Objects are never removed: each acknowledged one is everywhere in the end, no refused one is anywhere."""
    refused = {call.value: call for call in history if call.is_change and call.outcome == REFUSED}
    for call in history:
        if call.kind == "create" and call.outcome == OK:
            for manager in held:
                if manager.values.get(call.key) != call.value:
                    yield f"acknowledged object {call.key} is missing on manager {manager.manager}: {call}"
        if call.kind == "read" and call.value in refused:
            yield f"a refused write was read: {refused[call.value]}, then {call}"
    for manager in held:
        for key, value in manager.values.items():
            if value in refused:
                yield f"a refused write is in {key} on manager {manager.manager}: {refused[value]}"


def _wrong_versions(history: Sequence[Call], held: Sequence[Held]) -> Iterator[str]:
    """Each change that takes effect makes a register one version newer: no more took effect than were made, nor fewer
    than were acknowledged; one version has one value, is made from one other, and is never followed by an older one."""
    for key, calls in registers(history).items():
        acknowledged = sum(call.is_change and call.outcome == OK for call in calls)
        unknown = sum(call.is_change and call.outcome == UNKNOWN for call in calls)
        for manager in held:
            effective = manager.versions[key] - 1
            if not acknowledged <= effective <= acknowledged + unknown:
                yield (
                    f"register {key} was changed {effective} times as manager {manager.manager} has it; "
                    f"{acknowledged} changes were acknowledged, {unknown} are unknown"
                )
        yield from _two_from_one(key, calls)
        yield from _two_values_of_a_version(key, calls)
        yield from _backwards(key, calls)


def _two_from_one(key: str, calls: Iterable[Call]) -> Iterator[str]:
    made_from: dict[int, Call] = {}
    for call in calls:
        if call.kind == "cas" and call.outcome == OK:
            other = made_from.setdefault(call.expected, call)
            if other is not call:
                yield f"two changes of version {call.expected} of {key} were acknowledged: {other}, {call}"


def _two_values_of_a_version(key: str, calls: Iterable[Call]) -> Iterator[str]:
    values: dict[int, Call] = {}
    for call in calls:
        if call.kind == "read":
            other = values.setdefault(call.version, call)
            if other.value != call.value:
                yield f"version {call.version} of {key} was read with two values: {other}, {call}"


def _backwards(key: str, calls: Iterable[Call]) -> Iterator[str]:
    reads = [call for call in calls if call.kind == "read"]
    by_end = sorted(reads, key=lambda call: call.ended)
    newest: Call | None = None
    at = 0
    for call in sorted(reads, key=lambda call: call.began):
        while at < len(by_end) and by_end[at].ended < call.began:
            if newest is None or by_end[at].version > newest.version:
                newest = by_end[at]
            at += 1
        if newest is not None and call.version < newest.version:
            yield f"{key} was read at version {newest.version} and later at {call.version}: {newest}, {call}"


def _not_linearizable(history: Sequence[Call]) -> Iterator[str]:
    for key, calls in registers(history).items():
        if not linearizable(operations(calls)):
            yield f"register {key} is not linearizable"


def registers(history: Iterable[Call]) -> dict[str, list[Call]]:
    """What was done to each register and answered, or may have happened."""
    found: defaultdict[str, list[Call]] = defaultdict(list)
    for call in history:
        if (call.kind in ("write", "cas") and call.outcome != REFUSED) or (call.kind == "read" and call.outcome == OK):
            found[call.key].append(call)
    return dict(found)


def operations(calls: Iterable[Call]) -> list[Operation]:
    """For the search. An unknown write took effect before somebody had read it; one that nobody read may be left out:
    whatever order explains the rest does so with it at the end, and without it."""
    calls = list(calls)
    read_by: dict[int, float] = {}
    version_of: dict[int, int] = {}
    for call in calls:
        if call.kind == "read":
            read_by[call.value] = min(read_by.get(call.value, call.ended), call.ended)
            version_of[call.value] = call.version
    found = []
    for call in calls:
        ended = call.ended
        if call.outcome == UNKNOWN:
            if call.value not in read_by:
                continue
            ended = read_by[call.value]
        found.append(
            Operation(
                is_write=call.is_change,
                value=call.value,
                began=round(call.began * TICKS_PER_S),
                ended=min(FOREVER - 1, round(ended * TICKS_PER_S)),
                rank=version_of.get(call.value, 0),
            )
        )
    return found
