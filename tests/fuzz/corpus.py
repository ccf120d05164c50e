"""What the fuzzers begin with: small inputs that are right, and those that once were handled wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SEEDS: Final = Path(__file__).parent / "seeds"
GOLDEN: Final = Path(__file__).parents[1] / "golden"
_GOLDEN_OF: Final = {
    "frames": ("frames",),
    "codec": ("frames", "commands"),
    "command": ("commands",),
    "apply": ("commands",),
    "snapshot": ("snapshots",),
}


def seeds_of(target: str) -> dict[str, bytes]:
    """By name: the target's own seeds, and what the golden corpora have for it."""
    found = {path.name: path.read_bytes() for path in sorted((SEEDS / target).glob("*"))}
    for folder in _GOLDEN_OF.get(target, ()):
        for path in sorted((GOLDEN / folder).glob("*.hex")):
            found[f"golden-{path.stem}"] = bytes.fromhex("".join(path.read_text().split()))
    return found
