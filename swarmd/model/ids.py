"""Object ids: 25 lower-case base-36 characters, about 129 random bits (SwarmKit `identity/randomid.go`)."""

from __future__ import annotations

import random
import re
from typing import Final

ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 25

_ID = re.compile(r"[0-9a-z]{25}")


def new_id(rng: random.Random) -> str:
    """A fresh id. `rng` is `random.SystemRandom()` in production and seeded in tests."""
    number = rng.getrandbits(130)
    characters = []
    for _ in range(ID_LENGTH):
        number, digit = divmod(number, 36)
        characters.append(ID_ALPHABET[digit])
    return "".join(characters)


def is_id(text: str) -> bool:
    """Whether `text` has the form of an object id."""
    return _ID.fullmatch(text) is not None
