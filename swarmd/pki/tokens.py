"""Join tokens: `SWMTKN-1-<digest, 50 base-36>-<secret, 25 base-36>` (reference security 2.1)."""

from __future__ import annotations

import random

import msgspec

from swarmd.model import JoinTokens, Role


class JoinToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A parsed token."""

    digest: str
    secret: str


def new_token(digest: str, rng: random.Random) -> str:
    """A fresh token for the root with this digest."""
    raise NotImplementedError


def parse_token(text: str) -> JoinToken:
    """Raises `Invalid` with one clear reason."""
    raise NotImplementedError


def role_of_token(token: str, tokens: JoinTokens) -> Role | None:
    """The role that `token` gives, compared in constant time; None if it is neither."""
    raise NotImplementedError
