"""Every frame ever written is read by today's code, and written again byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.wire.frames import FrameType, decode_frame, encode_frame

FOLDER = Path(__file__).parents[2] / "golden" / "frames"
FILES = sorted(FOLDER.glob("*.hex"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_frame_is_read_and_written_again(path: Path) -> None:
    data = bytes.fromhex(path.read_text("ascii"))
    assert encode_frame(decode_frame(data)) == data


def test_the_corpus_holds_every_frame_type() -> None:
    assert {bytes.fromhex(path.read_text("ascii"))[1] for path in FILES} == set(FrameType)
