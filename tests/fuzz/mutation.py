"""Changed copies of seeds: cut, repeated, exchanged, and with numbers that are often at an edge. Deterministic."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

from tests.fuzz.shapes import CHANGE_OF

_EDGES: Final = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x1b" + b"\xff" * 8, b"\x3b" + b"\xff" * 8, b"\xf9\x7e\x00", b"\xf9\x7c\x00",
    b"\xf7", b"\xc2\x41\x01", b"\xd8\x23\x61a", b"\x9f", b"\xbf", b"\x5f", b"\x7b" + b"\xff" * 8, b"\x61\xff",
    b"\xed\xa0\x80", b"-1", b"0", b"9" * 40, b"nan", b"1e999", b"\n", b"\0", b"..", b"\xe2\x80\xae",
)  # fmt: skip


def mutations(target: str, seeds: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Without end: a seed with one to four changes, half of them such that keep its shape."""
    keep_shape = CHANGE_OF.get(target)
    while True:
        seed = rng.choice(seeds)
        if keep_shape is not None and rng.random() < 0.5:
            for _ in range(rng.randrange(1, 5)):
                seed = keep_shape(seed, rng) or seed
            yield seed
            continue
        data = bytearray(seed)
        for _ in range(rng.randrange(1, 5)):
            _change(data, seeds, rng)
        yield bytes(data)


def _change(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    upto = min(len(data), at + rng.choice((0, 1, 1, 2, 4, 8, 32)))
    match rng.randrange(6):
        case 0:
            data[at:upto] = rng.choice(_EDGES)
        case 1:
            data[at:upto] = rng.randbytes(upto - at)
        case 2:
            del data[at:upto]
        case 3:
            data[at:at] = data[at:upto] * rng.choice((1, 2, 20))
        case 4:
            other = rng.choice(seeds)
            begin = rng.randrange(len(other) + 1)
            data[at:upto] = other[begin : begin + rng.choice((1, 4, 16, 64))]
        case _:
            if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
