"""Every command and snapshot ever written is read by today's code, and written again byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.state import State, Verdict, decode_command, encode_command, encode_snapshot
from tests.golden.add_commands import HISTORIES, meta_at, samples

FOLDER = Path(__file__).parents[2] / "golden"
COMMANDS = sorted((FOLDER / "commands").glob("*.hex"))
SNAPSHOTS = sorted((FOLDER / "snapshots").glob("*.hex"))


def read(path: Path) -> bytes:
    return bytes.fromhex(path.read_text("ascii"))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_golden_command_is_read_and_written_again(path: Path) -> None:
    assert encode_command(decode_command(read(path))) == read(path)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_golden_snapshot_is_restored_and_written_again(path: Path) -> None:
    state, meta = State(), meta_at(len(HISTORIES[path.stem]))
    state.restore(meta, [read(path)])
    assert b"".join(encode_snapshot(state.capture(), meta)) == read(path)


def test_todays_transactions_make_the_very_bytes_of_the_corpus() -> None:
    made = {name: body.hex() for history in HISTORIES for name, body in samples(history)[0].items()}
    assert made == {path.stem: read(path).hex() for path in COMMANDS}
    assert {history: samples(history)[1] for history in HISTORIES} == {path.stem: read(path) for path in SNAPSHOTS}


@pytest.mark.parametrize("history", HISTORIES)
def test_the_commands_of_the_corpus_give_its_snapshot(history: str) -> None:
    state = State()
    for index, name in enumerate(HISTORIES[history], 1):
        assert state.apply(index, 3, read(FOLDER / "commands" / f"{name}.hex")).verdict is Verdict.APPLIED
    snapshot = b"".join(encode_snapshot(state.capture(), meta_at(state.index)))
    assert snapshot == read(FOLDER / "snapshots" / f"{history}.hex")
