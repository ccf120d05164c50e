"""Each way of getting a join token wrong is told by its own words."""

import random

import pytest

from swarmd.errors import Invalid
from swarmd.pki import new_token, parse_token, root_digest

TOKEN = new_token(root_digest(b"some root"), random.Random(5))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("hello", "begins with SWMTKN-1-"),
        (TOKEN[:-1] + " ", "white space"),
        ("\n" + TOKEN[:-1], "white space"),
        (TOKEN.upper(), "small letters"),
        (TOKEN.lower(), "small letters"),
        (TOKEN.replace("SWMTKN-1", "SWMTKN-9"), "version"),
        ("SWMTKN-1-x", "four parts"),
        (TOKEN[:-1], "25 characters"),
        (TOKEN[:-1] + "_", "0-9 and a-z"),
        (TOKEN[:-1] + "\uff11", "0-9 and a-z"),
        (TOKEN + "x", "has [0-9]+ characters; this one has"),
        ("SWMTKN-1-" + "z" * 50 + "-" + "0" * 25, "damaged"),
    ],
)
def test_a_reason_for_each(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        parse_token(text)
    assert "join-token" in (refused.value.hint or "")
    assert TOKEN[-20:] not in refused.value.message.lower()
