"""Which platforms run what was made for which (reference orchestration 7.4; SwarmKit `scheduler/filter.go`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmd.model.placement import Platform

_SAME_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def canonical_architecture(architecture: str) -> str:
    """One name for the architectures that have two. Cases differ."""
    return _SAME_ARCHITECTURE.get(architecture, architecture)


def runs(platform: Platform, wanted: Iterable[Platform]) -> bool:
    """Whether something for one of `wanted` runs on `platform`; for none, it does. An empty part of a wanted one stands
    for all; a node that does not say what it is runs nothing that says."""
    wanted = tuple(wanted)
    if not wanted:
        return True
    if platform == Platform():
        return False
    architecture = canonical_architecture(platform.architecture)
    return any(
        one.os in ("", platform.os)
        and (not one.architecture or canonical_architecture(one.architecture) == architecture)
        for one in wanted
    )
