"""Object ids: 25 lower-case base-36 characters, about 129 random bits (SwarmKit `identity/randomid.go`)."""

from __future__ import annotations

import random
import re
from typing import Final

ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 25

_BITS: Final = 130
_PAIRS: Final = tuple([low + high for high in ID_ALPHABET for low in ID_ALPHABET])
_ID = re.compile(r"[0-9a-z]{25}")


def new_id(rng: random.Random) -> str:
    """A fresh id. `rng` is `random.SystemRandom()` in production and seeded in tests."""
    # Two digits a step, the lowest first.
    number = rng.getrandbits(_BITS)
    pairs = []
    for _ in range(ID_LENGTH // 2):
        number, pair = divmod(number, 1296)
        pairs.append(_PAIRS[pair])
    return "".join(pairs) + ID_ALPHABET[number % 36]


def is_id(text: str) -> bool:
    """Whether `text` has the form of an object id."""
    return _ID.fullmatch(text) is not None
