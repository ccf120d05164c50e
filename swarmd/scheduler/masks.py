"""Sets of nodes as Python ints: bit `i` stands for the node with dense number `i`.

An `&` over 100,000 nodes takes under a microsecond, and an int is never tracked by the collector
(design: performance-scheduler 3).
"""

from __future__ import annotations

from collections.abc import Iterable


def lowest(mask: int) -> int:
    """The lowest number in a non-empty mask."""
    return (mask & -mask).bit_length() - 1


def numbers_of(mask: int) -> list[int]:
    """The numbers in `mask`, ascending. Scans a string with `find`, which is fast on dense and sparse masks alike."""
    digits = bin(mask)[:1:-1]
    numbers = []
    position = digits.find("1")
    while position >= 0:
        numbers.append(position)
        position = digits.find("1", position + 1)
    return numbers


def mask_of(numbers: Iterable[int], size: int) -> int:
    """The mask of `numbers`, all below `size`. Linear, where or-ing shifted bits would grow with the square."""
    octets = bytearray((size >> 3) + 1)
    for number in numbers:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def move_bits(masks: dict[int, int], bits: int, old: int, new: int) -> None:
    """Move `bits` from `masks[old]` to `masks[new]`; empty masks are dropped."""
    drop_bits(masks, bits, old)
    masks[new] = masks.get(new, 0) | bits


def drop_bits(masks: dict[int, int], bits: int, key: int) -> None:
    """Take `bits` out of `masks[key]`; an empty mask is dropped."""
    left = masks.get(key, 0) & ~bits
    if left:
        masks[key] = left
    else:
        masks.pop(key, None)
