"""What an engine's and a registry's words mean: for good, or worth another try. Pure.

The words themselves always stand in the error: nobody should have to ask the machine again.
"""

from __future__ import annotations

import re
from typing import Final

from swarmd.executor.contract import TaskError, TemporaryTaskError

_AUTHENTICATION: Final = re.compile(
    r"unauthorized|authentication required|incorrect username or password|no basic auth credentials|denied:", re.I
)
_DENIED: Final = re.compile(r"pull access denied|requested access to the resource is denied", re.I)
_ABSENT: Final = re.compile(
    r"manifest unknown|manifest for \S+ not found|name unknown|repository \S+ not found|no such image"
    r"|no matching manifest|does not exist",
    re.I,
)
_RATE_LIMITED: Final = re.compile(r"toomanyrequests|too many requests|rate limit", re.I)
_DISK_FULL: Final = re.compile(r"no space left on device", re.I)
_NETWORK: Final = re.compile(
    r"no such host|connection refused|connection reset|i/o timeout|timeout exceeded|deadline exceeded"
    r"|network is unreachable|no route to host|server misbehaving|unexpected EOF|TLS handshake timeout"
    r"|temporary failure|context canceled"
    r"|status: 50\d|status code 50\d|50[0234] (?:bad gateway|service|gateway|internal)",
    re.I,
)


def pull_error(image: str, words: str) -> TaskError:
    """Why an image did not come."""
    words = one_line(words)
    if _RATE_LIMITED.search(words):
        return TemporaryTaskError(f"image {image}: the registry limits how often it is asked: {words}")
    if _DENIED.search(words):
        return TaskError(f"image {image}: not found, or authentication failed: {words}")
    if _AUTHENTICATION.search(words):
        return TaskError(f"image {image}: authentication failed: {words}")
    if _ABSENT.search(words):
        return TaskError(f"image {image}: not found: {words}")
    if _DISK_FULL.search(words):
        return TemporaryTaskError(f"image {image}: the engine's disk is full: {words}")
    if _NETWORK.search(words):
        return TemporaryTaskError(f"image {image}: the registry cannot be reached: {words}")
    return TaskError(f"image {image}: {words}")


def engine_error(status: int, words: str) -> TaskError:
    """Why an engine refused a call. What it could not do (5xx) is tried again, unless it blames the task."""
    words = one_line(words)
    if _DISK_FULL.search(words):
        return TemporaryTaskError(f"the engine's disk is full: {words}")
    if status >= 500 and not _is_the_tasks_fault(words):
        return TemporaryTaskError(f"the engine failed: {words}")
    return TaskError(words)


def unreachable(address: str, reason: str) -> TemporaryTaskError:
    """Nobody answers where the engine should be."""
    return TemporaryTaskError(f"the engine at {address} does not answer: {one_line(reason)}")


_TASKS_FAULT: Final = re.compile(
    r"executable file not found|no such file or directory|permission denied|not a directory|exec format error"
    r"|is a directory|unable to find user|no matching entries in passwd|unable to find group|invalid"
    r"|OCI runtime create failed|oci runtime error",
    re.I,
)


def _is_the_tasks_fault(words: str) -> bool:
    return _TASKS_FAULT.search(words) is not None


def one_line(text: str) -> str:
    """`text` as it can stand in a status."""
    return " ".join(text.split()) or "it gave no reason"
