"""Every command that any version wrote can be shown, and what cannot be read does not end a dump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmd.manager.dump import Range, dump
from swarmd.manager.offline import OfflineLog, count_objects
from swarmd.raft import Entry, EntryKind, HardState
from swarmd.state.store import State
from swarmd.storage.log_contract import LogIdentity, StoredLog
from tests.e2e.readme import REPOSITORY
from tests.golden import kinds

GOLDEN = sorted((REPOSITORY / "tests" / "golden" / "commands").glob("*.hex"))
IDENTITY = LogIdentity(swarm_id="s", node_id="n", member_id=(1 << 62) + 1, incarnation=b"i" * 16)


def log_of(*entries: Entry, commit: int = 0) -> OfflineLog:
    stored = StoredLog(identity=IDENTITY, hard_state=HardState(term=1, commit=commit), entries=entries)
    return OfflineLog(identity=IDENTITY, stored=stored, snapshot_chunks=lambda: ())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("unredacted", [False, True])
def test_every_golden_command_is_shown_as_json(path: Path, unredacted: bool) -> None:
    *_, line = dump(
        log_of(Entry(1, 1, EntryKind.DATA, bytes.fromhex(path.read_text()))), Range(), unredacted=unredacted
    )
    assert "unreadable" not in line
    assert json.loads(json.dumps(line)) == line
    assert {change["op"] for change in line["changes"]} <= {
        *("create", "update", "remove", "require", "assign", "report", "advance"),
    }


def test_payloads_of_secrets_configs_and_resources_are_left_out_unless_asked_for() -> None:
    path = REPOSITORY / "tests" / "golden" / "commands" / "kinds-create-every-kind.hex"
    log = log_of(Entry(1, 1, EntryKind.DATA, bytes.fromhex(path.read_text())))
    payloads = [data.hex() for data in (kinds.SECRET.spec.data, kinds.CONFIG.spec.data, kinds.RESOURCE.payload)]
    redacted, whole = (json.dumps(list(dump(log, Range(), unredacted=asked))) for asked in (False, True))
    assert [payload in redacted for payload in payloads] == [False] * 3
    assert [payload in whole for payload in payloads] == [True] * 3
    assert [name in redacted for name in ("Front", "site.key", "site.conf", "fast", "Certificate")] == [True] * 5


def test_there_are_golden_commands_of_every_kind() -> None:
    ops = set()
    for path in GOLDEN:
        *_, line = dump(log_of(Entry(1, 1, EntryKind.DATA, bytes.fromhex(path.read_text()))), Range())
        ops |= {change["op"] for change in line["changes"]}
    assert ops >= {"create", "update", "remove", "assign", "report", "advance"}


def test_what_cannot_be_read_says_so_and_the_rest_follows() -> None:
    log = log_of(
        Entry(1, 1, EntryKind.DATA, b"\xff"), Entry(2, 1, EntryKind.NOOP), Entry(3, 2, EntryKind.DATA, b""), commit=2
    )
    first, second, third = list(dump(log, Range()))[4:]
    assert "unreadable" in first
    assert "unreadable" in third
    assert (second["kind"], second["status"]) == ("NOOP", "committed")
    assert (third["index"], third["term"], third["status"]) == (3, 2, "not known to be committed")


def test_member_ids_are_text_because_javascript_would_round_them() -> None:
    first, *_ = dump(log_of(), Range())
    assert first["member_id"] == "4000000000000001"


def test_an_empty_log_is_one_too() -> None:
    log = log_of()
    assert (log.last_index, log.last_term, log.known_commit) == (0, 0, 0)
    assert sum(count_objects(log.replay(0)).values()) == 0
    assert isinstance(log.replay(0), State)
