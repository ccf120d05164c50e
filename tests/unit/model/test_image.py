from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model.image import image_problem


@pytest.mark.parametrize(
    "image",
    [
        "redis",
        "redis:7.2",
        "library/redis",
        "a_b/c__d/e-f---g.h",
        "localhost/app",
        "localhost:5000/team/app:v1",
        "registry.example.org/app@sha256:" + "a" * 64,
        "Registry.Example.org/app",
        "[::1]:5000/app:1",
        "[2001:db8::1]/app",
        "app:1@sha256:" + "0" * 64,
        "app:_x.Y-2",
        "/",
        "/srv/root fs",
        "host/" + "a" * 250,
    ],
)
def test_legal(image: str) -> None:
    assert image_problem(image) is None


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("", "required"),
        ("Redis", "lower case"),
        ("example.org/Team/app", "lower case"),
        ("redis:", "tag"),
        ("redis:-x", "tag"),
        ("redis:" + "a" * 129, "tag"),
        ("redis@sha256:abc", "digest"),
        ("redis@", "digest"),
        ("redis@x@sha256:" + "a" * 64, "digest"),
        ("a//b", "malformed part"),
        ("a/", "malformed part"),
        (" redis", "malformed part"),
        ("redis latest", "malformed part"),
        ("a___b", "malformed part"),
        ("-a", "malformed part"),
        ("a..b", "malformed part"),
        ("ex_ample.org/app", "registry"),
        ("host:port/app", "registry"),
        ("[::1/app", "registry"),
        ("[::1]x/app", "registry"),
        ("a" * 64, "image id"),
        ("a" * 256, "255"),
        ("a" * 600, "512"),
        ("./dir", "malformed|registry"),
        ("redis\n", "malformed part"),
        ("rédis", "malformed part"),
        ("/srv/\x1b[2J", "control"),
        ("/" + "a" * 5000, "4096"),
    ],
)
def test_refused_with_a_reason(image: str, reason: str) -> None:
    problem = image_problem(image)
    assert problem is not None
    assert any(word in problem for word in reason.split("|"))


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=600))
def test_any_text_is_answered(text: str) -> None:
    image_problem(text)


@pytest.mark.parametrize("text", ["a" + "-" * 400, "a" + "._" * 127, "a:" + "a" * 500, "[" + ":" * 500, "a-" * 255])
def test_hostile_repetition_costs_no_time(text: str) -> None:
    # A pattern that backtracks would not come back from any of these.
    image_problem(text)
