"""Platforms and their aliases (reference orchestration, scenario 15)."""

from __future__ import annotations

import pytest

from swarmd.model import Platform
from swarmd.model.platforms import runs

AMD = Platform(architecture="x86_64", os="linux")
ARM = Platform(architecture="arm64", os="linux")


@pytest.mark.parametrize(
    ("platform", "wanted", "does"),
    [
        (AMD, (), True),
        (Platform(), (), True),
        (AMD, (Platform(architecture="amd64", os="linux"),), True),
        (Platform(architecture="amd64", os="linux"), (AMD,), True),
        (ARM, (Platform(architecture="aarch64", os="linux"),), True),
        (ARM, (AMD,), False),
        (ARM, (AMD, Platform(os="linux")), True),
        (AMD, (Platform(os="windows"),), False),
        (AMD, (Platform(architecture="X86_64"),), False),
        (AMD, (Platform(),), True),
        (Platform(), (Platform(),), False),
    ],
)
def test_what_runs_where(platform: Platform, wanted: tuple[Platform, ...], does: bool) -> None:
    assert runs(platform, wanted) is does
