"""Looking into the log of a stopped manager: what is told and hidden, what damage looks like, that nothing moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from swarmd import __main__ as daemon
from swarmd.errors import FailedPrecondition
from swarmd.manager.dump import REDACTED, Range
from swarmd.node.founding import open_log
from swarmd.node.identity import StateDirectory
from swarmd.node.inspection import dump_lines, object_lines, report, verify
from swarmd.raft import ChangeKind, Entry, EntryKind, HardState
from swarmd.storage.lock import hold
from swarmd.storage.log_store import LogBatch
from swarmd.wire.raft_codec import encode_runs
from tests.unit.node.lost_group import OTHERS, Group, a_service, place_in_newest_row, tree


@pytest.fixture
def group() -> Group:
    return Group().with_others()


def dumped(directory: StateDirectory, first: int = 0, last: int = 0, *, unredacted: bool = False) -> list[Any]:
    lines = dump_lines(directory.path, Range(first=first, last=last), unredacted=unredacted)
    return [json.loads(line) for line in lines]


def entries_of(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["what"] == "entry"]


def test_a_log_is_shown_from_its_identity_to_its_last_entry(tmp_path: Path, group: Group) -> None:
    lines = dumped(group.make(tmp_path))
    assert [line["what"] for line in lines[:5]] == ["log", "hard_state", "snapshot", "membership", "entry"]
    assert lines[0]["node_id"] == group.identity.node_id
    assert (lines[1]["commit"], lines[1]["last_index"]) == (group.commit, group.last)
    membership = lines[3]
    assert {m["node_id"] for m in membership["members"]} == {group.identity.node_id, "second", "third"}
    assert all(m["is_voter"] for m in membership["members"])
    entries = entries_of(lines)
    assert [entry["index"] for entry in entries] == [entry.index for entry in group.entries]
    assert (entries[0]["kind"], entries[0]["change"]) == ("CONFIG", "ADD_LEARNER")
    (created,) = entries[-1]["changes"]
    assert (created["op"], created["table"], created["object"]["spec"]["name"]) == ("create", "SERVICE", "web")
    assert entries[-1]["actor"] == "local:test"


def objects_of(directory: StateDirectory, up_to: int = 0, *, unredacted: bool = False) -> list[Any]:
    lines = object_lines(directory.path, up_to=up_to, unredacted=unredacted)
    return [json.loads(line) for line in lines]


def test_objects_are_those_of_snapshot_and_log_together(tmp_path: Path, group: Group) -> None:
    group.write(lambda tx: tx.create(a_service("late")))
    whole = objects_of(group.make(tmp_path / "whole"))
    cut = objects_of(group.make(tmp_path / "cut", snapshot_at=group.commit - 1))
    assert cut == whole
    assert whole[0]["index"] == group.commit
    names = [line["object"]["spec"]["name"] for line in whole[1:] if line["table"] == "SERVICE"]
    assert names == ["web"]
    later = objects_of(group.make(tmp_path / "later"), group.last)
    assert {line["object"]["spec"]["name"] for line in later[1:] if line["table"] == "SERVICE"} == {"web", "late"}


def test_objects_hide_secrets_unless_asked_for(tmp_path: Path, group: Group) -> None:
    directory = group.make(tmp_path)
    cluster = group.state.cluster()
    assert cluster is not None
    token = cluster.root_ca.join_tokens.manager
    assert token not in json.dumps(objects_of(directory))
    assert "PASSWORD=<redacted>" in json.dumps(objects_of(directory))
    assert token in json.dumps(objects_of(directory, unredacted=True))


def test_a_range_holds_both_its_ends(tmp_path: Path, group: Group) -> None:
    directory = group.make(tmp_path)
    assert [e["index"] for e in entries_of(dumped(directory, 3, 5))] == [3, 4, 5]
    assert [e["index"] for e in entries_of(dumped(directory, group.last))] == [group.last]


def test_what_is_not_known_to_be_committed_says_so(tmp_path: Path, group: Group) -> None:
    group.write(lambda tx: tx.create(a_service("late")))
    group.change(ChangeKind.REMOVE, OTHERS[0])
    lines = dumped(group.make(tmp_path))
    assert {line["status"] for line in entries_of(lines) if line["index"] <= group.commit} == {"committed"}
    assert [e["status"] for e in entries_of(lines)[-2:]] == ["not known to be committed"] * 2
    assert lines[3]["status"] == "not known to be committed"
    assert lines[3]["removed"] == ["4d"]


def test_secrets_are_left_out_unless_asked_for(tmp_path: Path, group: Group) -> None:
    directory = group.make(tmp_path)
    founding = group.founding
    cluster = group.state.cluster()
    assert cluster is not None
    secrets = [
        "hunter2",
        cluster.root_ca.join_tokens.worker,
        cluster.root_ca.join_tokens.manager,
        cluster.root_ca.key.decode().splitlines()[1],
        founding.identity.certificate.decode().splitlines()[1],
    ]
    shown = "\n".join(dump_lines(directory.path, Range(), unredacted=False))
    assert [secret for secret in secrets if secret in shown] == []
    assert REDACTED in shown
    assert "PASSWORD=<redacted>" in shown
    everything = "\n".join(dump_lines(directory.path, Range(), unredacted=True))
    assert [secret for secret in secrets if secret not in everything] == []


def test_a_sound_log_is_replayed_and_counted(tmp_path: Path, group: Group) -> None:
    found = verify(group.make(tmp_path).path)
    state = group.state
    assert (found.state_index, found.digest, found.state_hash) == (
        group.commit,
        state.digest.hex(),
        state.state_hash().hex(),
    )
    assert (found.voters, found.objects["node"], found.objects["service"]) == (3, 3, 1)
    assert "failures tolerated: 1" in report(found)
    assert "3 node, 1 service, 1 cluster" in report(found)


def test_a_snapshot_and_the_log_after_it_come_to_the_same_state(tmp_path: Path, group: Group) -> None:
    whole = verify(group.make(tmp_path / "whole").path)
    cut = verify(group.make(tmp_path / "cut", snapshot_at=group.last - 2).path)
    assert (cut.snapshot_index, cut.first_index) == (group.last - 2, group.last - 1)
    assert (cut.digest, cut.state_hash) == (whole.digest, whole.state_hash)


def test_only_what_is_committed_is_replayed_unless_an_index_is_named(tmp_path: Path, group: Group) -> None:
    group.write(lambda tx: tx.create(a_service("late")))
    directory = group.make(tmp_path)
    found = verify(directory.path)
    assert (found.state_index, found.objects["service"]) == (group.commit, 1)
    assert "1 later entries are not known to be committed" in report(found)
    assert verify(directory.path, up_to=group.last).objects["service"] == 2
    assert verify(directory.path, up_to=group.commit - 1).objects["service"] == 0
    with pytest.raises(FailedPrecondition, match="is not here"):
        verify(directory.path, up_to=group.last + 1)


def test_a_running_daemon_is_left_alone(tmp_path: Path, group: Group) -> None:
    directory = group.make(tmp_path)
    with hold(directory.lock), pytest.raises(FailedPrecondition, match="another swarmd"):
        verify(directory.path)


def test_nothing_is_changed(tmp_path: Path, group: Group) -> None:
    directory = group.make(tmp_path, snapshot_at=5)
    before = tree(tmp_path)
    verify(directory.path)
    dumped(directory)
    assert tree(tmp_path) == before


def test_damage_anywhere_is_one_clear_line_and_exit_1(
    tmp_path: Path, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = group.make(tmp_path, snapshot_at=group.last - 2)
    for name in ("raft/raft.db", f"raft/snapshot-{group.last - 2}-1", "certificates/data-keys.cbor"):
        path = tmp_path / name
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[place_in_newest_row(path) if name.endswith(".db") else -20] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(SystemExit) as ended:
            daemon.main(["raft", "verify", str(directory.path)])
        told = capsys.readouterr()
        assert ended.value.code == 1, name
        assert told.out == ""
        first, second = told.err.splitlines()
        assert first.startswith("Error: damaged: "), first
        assert second.startswith("Hint: "), second
        path.write_bytes(sound)
    (tmp_path / "certificates/data-keys.cbor").unlink()
    with pytest.raises(FailedPrecondition, match=r"data-keys\.cbor is missing"):
        verify(directory.path)
    assert not (tmp_path / "certificates/data-keys.cbor").exists()


def test_the_commands_print_lines_for_scripts(tmp_path: Path, group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    directory = group.make(tmp_path)
    for arguments in (["verify", "-o", "json"], ["dump", "--objects"], ["dump", "--from", "2", "--to", "2"]):
        with pytest.raises(SystemExit) as ended:
            daemon.main(["raft", arguments[0], str(directory.path), *arguments[1:]])
        assert not ended.value.code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["state_index"] == group.commit
    assert lines[-1]["index"] == 2


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        (["verify", "-o", "xml", "DIR"], "unknown format", 78),
        (["verify", "nowhere"], "holds no Raft log", 1),
        (["dump", "DIR", "--from", "-1"], "--from", 78),
        (["dump"], "DIR", 78),
        (["dump", "DIR", "--objects", "--from", "2"], "--from", 78),
        (["heal", "DIR"], "heal", 78),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, group: Group, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str, status: int
) -> None:
    directory = group.make(tmp_path)
    with pytest.raises(SystemExit) as ended:
        daemon.main(["raft", *(str(directory.path) if a == "DIR" else a for a in arguments)])
    assert ended.value.code == status
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Error: ")
    assert says in told[0]
    assert "Traceback" not in "".join(told)


def test_a_directory_in_the_middle_of_a_key_rotation_is_read(tmp_path: Path, group: Group) -> None:
    """Rows, records and snapshot under the old key, the newest row under the new one; then all but the snapshot."""
    directory = group.make(tmp_path, snapshot_at=4)
    expected = verify(directory.path)
    late = Entry(group.last + 1, 1, EntryKind.NOOP)
    store = open_log(group.identity, directory.raft, directory.data_keys, group.rng.randbytes)
    try:
        assert store.sealer.rotate() == 2
        runs = encode_runs([late])
        store.write(LogBatch(hard_state=HardState(term=1, commit=group.commit), runs=runs))
    finally:
        store.close()
    before = tree(directory.path)
    found = verify(directory.path)
    assert (found.last_index, found.digest, found.objects) == (late.index, expected.digest, expected.objects)
    assert list(dump_lines(directory.path, Range(), unredacted=False))
    assert tree(directory.path) == before
    store = open_log(group.identity, directory.raft, directory.data_keys, group.rng.randbytes)
    try:
        assert store.reseal(0).changed
    finally:
        store.close()
    assert verify(directory.path) == found  # the snapshot is still the old key's


def test_what_a_killed_daemon_left_in_the_write_ahead_log_is_read_too(tmp_path: Path, group: Group) -> None:
    """kill -9 leaves commits there; the files are copied while the log is open, as they are after a crash."""
    directory = group.make(tmp_path / "live")
    late = Entry(group.last + 1, 1, EntryKind.NOOP)
    store = open_log(group.identity, directory.raft, directory.data_keys, bytes)
    try:
        store.write(LogBatch(hard_state=HardState(term=1, commit=late.index), runs=encode_runs([late])))
        shutil.copytree(directory.path, tmp_path / "dead")
    finally:
        store.close()
    assert (tmp_path / "dead" / "raft" / "raft.db-wal").stat().st_size
    before = tree(tmp_path / "dead")
    assert verify(tmp_path / "dead").commit == late.index
    assert tree(tmp_path / "dead") == before
