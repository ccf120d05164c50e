"""Join tokens: `SWMTKN-1-<digest, 50 base-36>-<secret, 25 base-36>` (reference security 2.1)."""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from typing import Final

import msgspec

from swarmd.errors import Invalid
from swarmd.model import ID_ALPHABET, JoinTokens, Role

DIGEST_LENGTH: Final = 50
SECRET_LENGTH: Final = 25
SECRET_BITS: Final = 128
PREFIX: Final = "SWMTKN"
TOKEN_LENGTH: Final = len(f"{PREFIX}-1-") + DIGEST_LENGTH + 1 + SECRET_LENGTH

_TOKEN = re.compile(rf"{PREFIX}-1-([0-9a-z]{{{DIGEST_LENGTH}}})-([0-9a-z]{{{SECRET_LENGTH}}})")
_HINT = "`swarmctl cluster join-token worker` on a manager shows it, ready to be copied"


class JoinToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A parsed token."""

    digest: str
    secret: str


def new_token(digest: str, rng: random.Random) -> str:
    """A fresh token for the root with this digest. `rng` is `random.SystemRandom()` in production."""
    return f"{PREFIX}-1-{digest}-{_base36(rng.getrandbits(SECRET_BITS), SECRET_LENGTH)}"


def parse_token(text: str) -> JoinToken:
    """Raises `Invalid` with one clear reason, which never repeats the token."""
    # The length comes first: a megabyte is refused without being looked at.
    if len(text) > TOKEN_LENGTH:
        raise Invalid(f"a join token has {TOKEN_LENGTH} characters; this one has {len(text)}", hint=_HINT)
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise Invalid(_reason(text), hint=_HINT)
    digest, secret = match.groups()
    # The alphabet is checked above, so that `int` sees no sign, space, underscore or foreign digit.
    if int(digest, 36) >= 1 << 256 or int(secret, 36) >= 1 << SECRET_BITS:
        raise Invalid("the join token is damaged: a part of it is out of range", hint=_HINT)
    return JoinToken(digest=digest, secret=secret)


def role_of_token(token: str, tokens: JoinTokens) -> Role | None:
    """The role that `token` gives, compared in constant time; None if it is neither."""
    given = token.encode("utf-8", "surrogatepass")
    is_manager = hmac.compare_digest(given, tokens.manager.encode())
    is_worker = hmac.compare_digest(given, tokens.worker.encode())
    if not token:
        return None
    if is_manager:
        return Role.MANAGER
    return Role.WORKER if is_worker else None


def digest_of(root: bytes) -> str:
    """SHA-256 over exactly these bytes as 50 base-36 characters."""
    return _base36(int.from_bytes(hashlib.sha256(root).digest(), "big"), DIGEST_LENGTH)


def _reason(text: str) -> str:
    if not text:
        return "the join token is empty"
    if text != text.strip():
        return "there is white space around the join token"
    if (text[: len(PREFIX)] != PREFIX and text.upper().startswith(PREFIX)) or text[len(PREFIX) :] != text[
        len(PREFIX) :
    ].lower():
        return f"a join token is written in small letters after {PREFIX}; this one's case was changed"
    parts = text.split("-")
    if parts[0] != PREFIX:
        return f"a join token begins with {PREFIX}-1-"
    if len(parts) > 1 and parts[1] != "1":
        return "the join token is of a version that this program does not know"
    if len(parts) != 4:
        return "a join token has four parts separated by hyphens"
    return f"a join token ends in {DIGEST_LENGTH} and {SECRET_LENGTH} characters out of 0-9 and a-z"


def _is_of_other_case(text: str) -> bool:
    """Whether this would be a token if its letters were as they are printed."""
    return text.upper().startswith(f"{PREFIX}-") and _TOKEN.fullmatch(PREFIX + text[len(PREFIX) :].lower()) is not None


def _base36(number: int, length: int) -> str:
    """`number`, most significant digit first, padded with zeros."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(ID_ALPHABET[digit])
    return "".join(reversed(digits))
