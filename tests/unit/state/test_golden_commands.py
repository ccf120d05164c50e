"""Every command and snapshot ever written is read by today's code, and written again byte for byte."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmd.model import SealedPayload, Secret
from swarmd.state import State, Verdict, decode_command, encode_command, encode_snapshot
from swarmd.state.command import TABLE_OF_TYPE
from swarmd.state.selectors import All
from tests.golden import kinds
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


def fields_set(value: Any) -> Iterator[tuple[type, str]]:
    """Every field, at any depth, that is not left at its default."""
    if isinstance(value, msgspec.Struct):
        defaults = msgspec.structs.fields(value)
        for field in defaults:
            held = getattr(value, field.name)
            if held != field.default and held not in ((), {}):
                yield type(value), field.name
            yield from fields_set(held)
    elif isinstance(value, tuple):
        for item in value:
            yield from fields_set(item)


def test_the_corpus_sets_every_field_of_the_kinds_that_were_added() -> None:
    state = State()
    state.restore(meta_at(len(HISTORIES["kinds"])), [read(FOLDER / "snapshots" / "kinds.hex")])
    objects = [object for type_ in TABLE_OF_TYPE for object in state.find(type_, All())]
    objects += [kinds.RAW, kinds.ATTACHMENT]
    found = {field for object in objects for field in fields_set(object)}
    modules = ("networks", "payloads", "volumes", "extensions", "references")
    structs = {
        type_
        for name in modules
        for type_ in vars(importlib.import_module(f"swarmd.model.{name}")).values()
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_.__module__.endswith(name)
    }
    assert len(structs) > 20
    structs -= {SealedPayload}
    wanted = {(type_, field) for type_ in structs for field in type_.__struct_fields__}
    wanted -= {(Secret, "sealed")}
    assert {(type_.__name__, field) for type_, field in wanted - found} == set()
