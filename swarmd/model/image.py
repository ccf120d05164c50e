"""The form of an image reference (OCI distribution reference grammar), or of an absolute directory in its place."""

from __future__ import annotations

import re
from typing import Final

from swarmd.model.quote import quote

NAME_CHARACTERS_MAX: Final = 255
REFERENCE_CHARACTERS_MAX: Final = 512
DIRECTORY_CHARACTERS_MAX: Final = 4096

_HOST = re.compile(r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:]+\]")
_PORT = re.compile(r"[0-9]+")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,128}")
_BARE_ID = re.compile(r"[0-9a-f]{64}")


def image_problem(image: str) -> str | None:
    """Why `image` is neither a legal reference nor an absolute directory; None if it is one."""
    if not image:
        return "an image is required"
    if image.startswith("/"):
        return _directory_problem(image)
    if len(image) > REFERENCE_CHARACTERS_MAX:
        return f"an image reference has at most {REFERENCE_CHARACTERS_MAX} characters"
    named, at, digest = image.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        return f"malformed digest {quote(digest)}"
    name, tag = _split_tag(named)
    if tag is not None and _TAG.fullmatch(tag) is None:
        return f"malformed tag {quote(tag)}"
    return _name_problem(name)


def _directory_problem(path: str) -> str | None:
    if len(path) > DIRECTORY_CHARACTERS_MAX:
        return f"a directory has at most {DIRECTORY_CHARACTERS_MAX} characters"
    if not path.isprintable():
        return "a directory holds no control characters"
    return None


def _split_tag(named: str) -> tuple[str, str | None]:
    colon = named.find(":", named.rfind("/") + 1)
    return (named, None) if colon < 0 else (named[:colon], named[colon + 1 :])


def _name_problem(name: str) -> str | None:
    if len(name) > NAME_CHARACTERS_MAX:
        return f"an image name has at most {NAME_CHARACTERS_MAX} characters"
    parts = name.split("/")
    if len(parts) > 1 and _is_registry(parts[0]):
        if not _is_legal_registry(parts[0]):
            return f"malformed registry {quote(parts[0])}"
        parts = parts[1:]
    elif _BARE_ID.fullmatch(name) is not None:
        return "64 hexadecimal digits are an image id, not a name"
    for part in parts:
        if _PATH.fullmatch(part) is None:
            return _path_problem(part)
    return None


def _path_problem(part: str) -> str:
    if part != part.lower():
        return f"an image name is in lower case, not {quote(part)}"
    return f"malformed part {quote(part)} of the image name"


def _is_registry(first: str) -> bool:
    # The guess that every client of registries makes: `a.b/c`, `a:5000/c` and `localhost/c` begin with one, `a/b` not.
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _is_legal_registry(text: str) -> bool:
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host += bracket
        if rest and not rest.startswith(":"):
            return False
        port, colon = rest[1:], rest[:1]
    else:
        host, colon, port = text.partition(":")
    if colon and _PORT.fullmatch(port) is None:
        return False
    if host.startswith("["):
        return _IPV6.fullmatch(host) is not None
    return all(_HOST.fullmatch(label) is not None for label in host.split("."))
