"""`audit`: what is asked for, what is printed, and the chain computed anew."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from swarmctl.render.audit import FIELDS_SHOWN
from swarmd.wire.audit import AuditedChange, AuditMessage, AuditRecord, chained
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon


def change(kind: str = "service", name: str = "web", **fields: Any) -> AuditedChange:
    return AuditedChange(action="update", kind=kind, id=f"{name}-id", name=name, fields=fields)


def log() -> list[AuditRecord]:
    made: list[AuditRecord] = []
    for record in (
        AuditRecord(index=3, at=NOW - 300, actor="operator@n1", result="applied", changes=(change(replicas=(1, 2)),)),
        AuditRecord(index=7, at=NOW - 200, actor="anonymous", result="applied", changes=(change("node", "w1"),)),
        AuditRecord(
            index=9, at=NOW - 100, actor="operator@n2", result="conflict: web moved", changes=(change(), change("node"))
        ),
    ):
        made.append(chained(made[-1].chain if made else "", record))
    return made


OWN = AuditRecord(
    index=0, at=NOW - 150, actor="node:w9", result="it was removed", what="node.list", address="10.0.0.9:4"
)


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


def run(daemon: FakeDaemon, *arguments: str, records: list[AuditRecord] | None = None) -> Any:
    found = log() if records is None else records
    daemon.streams = [[AuditMessage(records=tuple(found[:2])), AuditMessage(records=(*found[2:], OWN))]]
    return daemon.run("audit", *arguments)


def test_the_table_has_a_row_for_each_change_and_own_notes_between_them(daemon: FakeDaemon) -> None:
    result = run(daemon)
    at = [datetime.fromtimestamp(NOW - s, UTC).isoformat().replace("+00:00", "Z") for s in (300, 200, 150, 100)]
    lines = [line.split("  ") for line in result.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["Time", "Index", "Actor", "Action", "Object", "Result"]
    assert cells[2:] == [
        [at[0], "3", "operator@n1", "update", "service web", "applied"],
        [at[1], "7", "anonymous", "update", "node w1", "applied"],
        [at[2], "-", "node:w9", "node.list", "it was removed"],
        [at[3], "9", "operator@n2", "update", "service web", "conflict: web moved"],
        [at[3], "9", "operator@n2", "update", "node web", "conflict: web moved"],
    ]
    assert (result.code, result.err) == (0, "")


def test_wide_shows_what_is_different_and_where_a_caller_was(daemon: FakeDaemon) -> None:
    many = change(**{f"f{n}": (None, n) for n in range(FIELDS_SHOWN + 3)})
    records = log()
    records[1] = replace(records[1], changes=(many,))
    out = run(daemon, "-o", "wide", records=records).out
    assert "replicas: 1 -> 2" in out
    assert "f0: null -> 0" in out
    assert "and 3 more" in out
    assert "10.0.0.9:4" in out


def test_json_has_everything(daemon: FakeDaemon) -> None:
    found = json.loads(run(daemon, "-o", "json").out)
    assert [record["index"] for record in found] == [3, 7, 0, 9]
    assert found[0]["changes"][0]["fields"] == {"replicas": [1, 2]}
    assert found[0]["chain"] == log()[0].chain
    assert found[2]["what"] == "node.list"


def test_times_are_asked_of_the_manager(daemon: FakeDaemon) -> None:
    run(daemon, "--since", "10m", "--until", "2027-01-31T12:00:00Z", "--limit", "5")
    (request,) = daemon.asked("audit")
    assert request.since == NOW - 600
    assert request.until == datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp()
    assert request.limit == 5


def test_the_newest_hundred_unless_told_otherwise(daemon: FakeDaemon) -> None:
    run(daemon)
    run(daemon, "--limit", "0")
    assert [request.limit for request in daemon.asked("audit")] == [100, 0]
    assert [r["index"] for r in json.loads(run(daemon, "--limit", "2", "-o", "json").out)] == [0, 9]


def test_actor_and_kind_are_looked_for_in_everything(daemon: FakeDaemon) -> None:
    assert [r["index"] for r in json.loads(run(daemon, "--actor", "operator@", "-o", "json").out)] == [3, 9]
    assert [r["index"] for r in json.loads(run(daemon, "--kind", "node", "-o", "json").out)] == [7, 9]
    found = json.loads(run(daemon, "--kind", "node", "--limit", "1", "-o", "json").out)
    assert [r["index"] for r in found] == [9]
    assert [request.limit for request in daemon.asked("audit")] == [0, 0, 0]


def test_a_gap_is_never_filtered_away(daemon: FakeDaemon) -> None:
    gap = AuditRecord(index=5, at=NOW, actor="", result="gap", what="entries 1..5 are not told of: ...")
    assert [r["index"] for r in json.loads(run(daemon, "--actor", "x", "-o", "json", records=[gap]).out)] == [5]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--since", "yesterday"), "--since"),
        (("--until", "2026-99-99"), "--until"),
        (("--limit", "-1"), "--limit"),
        (("--kind", "pod"), "--kind"),
    ],
)
def test_what_is_not_understood_is_refused(daemon: FakeDaemon, arguments: tuple[str, ...], complaint: str) -> None:
    result = run(daemon, *arguments)
    assert result.code != 0
    assert complaint in result.err
    assert daemon.calls == []


def test_a_chain_that_holds_is_told_with_its_head(daemon: FakeDaemon) -> None:
    result = run(daemon, "--verify")
    assert result.out == f"3 records from index 3 to 9: the chain holds\nchain at index 9: {log()[-1].chain}\n"
    (request,) = daemon.asked("audit")
    assert (request.since, request.until, request.limit) == (0.0, 0.0, 0)


def test_a_chain_that_breaks_says_where_and_fails(daemon: FakeDaemon) -> None:
    records = log()
    records[1] = replace(records[1], actor="somebody else")
    result = run(daemon, "--verify", records=records)
    assert result.code != 0
    assert "the chain breaks at entry 7" in result.err


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_record_that_does_not_open_breaks_it_too(daemon: FakeDaemon, position: int) -> None:
    records = log()
    records[position] = AuditRecord(index=0, at=0.0, actor="", result="damaged", what="record 2: a bad seal")
    result = run(daemon, "--verify", records=records)
    assert result.code != 0
    assert "the chain breaks: record 2: a bad seal" in result.err
