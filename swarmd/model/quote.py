"""How a stranger's text is quoted in an error: short, on one line, harmless for a terminal."""

from __future__ import annotations

from typing import Final

QUOTED_CHARACTERS_MAX: Final = 63


def quote(text: str) -> str:
    """`text` in double quotes, cut to 63 characters, what cannot be printed as `?`."""
    shown = text if len(text) <= QUOTED_CHARACTERS_MAX else text[: QUOTED_CHARACTERS_MAX - 3] + "..."
    return '"' + "".join(character if character.isprintable() else "?" for character in shown) + '"'
