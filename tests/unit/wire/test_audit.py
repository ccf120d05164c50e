"""The chain: whoever has the records can compute it, and sees what was changed, taken out or put in."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.wire import codec
from swarmd.wire.audit import AuditedChange, AuditRecord, chained, first_broken


def records(count: int) -> list[AuditRecord]:
    made: list[AuditRecord] = []
    for index in range(1, count + 1):
        fields = {"spec.replicas": (None, index), "spec.env": ([], ["A=<redacted>"]), "at": (1.0, 2.5)}
        change = AuditedChange(action="update", kind="service", id="s", name="wéb", fields=fields)
        record = AuditRecord(index=index, at=index / 3, actor="operator@n", result="applied", changes=(change,))
        made.append(chained(made[-1].chain if made else "", record))
    return made


def test_the_chain_survives_the_wire() -> None:
    sent = records(5)
    received = [codec.decode(codec.encode(record), AuditRecord) for record in sent]
    assert first_broken(received) is None
    assert [record.chain for record in received] == [record.chain for record in sent]
    assert len({record.chain for record in sent}) == 5


def test_the_oldest_that_is_kept_is_taken_as_it_is() -> None:
    assert first_broken(records(5)[3:]) is None
    assert first_broken([]) is None


@pytest.mark.parametrize("position", [1, 2, 4])
def test_a_change_is_found_where_it_is(position: int) -> None:
    made = records(5)
    made[position] = replace(made[position], actor="operator@other")
    assert first_broken(made) is made[position]


def test_what_was_taken_out_put_in_or_exchanged_is_found() -> None:
    made = records(5)
    assert first_broken(made[:2] + made[3:]) is made[3]
    forged = replace(made[1], index=9)
    assert first_broken([made[0], forged, *made[1:]]) is forged
    assert first_broken([made[0], made[2], made[1], made[3]]) is made[2]
