"""Every command and snapshot ever written is read by today's code, and written again byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.raft import Configuration, Member, SnapshotMeta
from swarmd.state import State, Verdict, decode_command, encode_command, encode_snapshot
from tests.golden.add_commands import samples

FOLDER = Path(__file__).parents[2] / "golden"
COMMANDS = sorted((FOLDER / "commands").glob("*.hex"))
SNAPSHOTS = sorted((FOLDER / "snapshots").glob("*.hex"))
MEMBER = Member(member_id=1, node_id=f"node{1:021}", addresses=("192.0.2.1:4242",), is_voter=True)
META = SnapshotMeta(index=7, term=3, configuration=Configuration(members=(MEMBER,), removed=(9,)))


def read(path: Path) -> bytes:
    return bytes.fromhex(path.read_text("ascii"))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_golden_command_is_read_and_written_again(path: Path) -> None:
    assert encode_command(decode_command(read(path))) == read(path)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_golden_snapshot_is_restored_and_written_again(path: Path) -> None:
    state = State()
    state.restore(META, [read(path)])
    assert b"".join(encode_snapshot(state.capture(), META)) == read(path)


def test_todays_transactions_make_the_very_bytes_of_the_corpus() -> None:
    commands, snapshot = samples()
    assert {name: body.hex() for name, body in commands.items()} == {p.stem: read(p).hex() for p in COMMANDS}
    assert [snapshot] == [read(path) for path in SNAPSHOTS]


def test_the_commands_of_the_corpus_give_its_snapshot() -> None:
    state = State()
    for index, body in enumerate(samples()[0].values(), 1):
        assert state.apply(index, 3, body).verdict is Verdict.APPLIED
    assert [b"".join(encode_snapshot(state.capture(), META))] == [read(path) for path in SNAPSHOTS]
