"""A node that becomes a manager asks for the unlock key with its new certificate, before its new key is saved.

"There is none" is believed only from a manager that knows the question (reference security 8, row 29): whoever cannot
answer leaves the node without a saved key, never with one in clear.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from swarmd.errors import FailedPrecondition, SwarmError, Unimplemented
from swarmd.model import UnlockKey
from swarmd.node.enrolment import RETRY_S, TRANSIENT, TRIES_MAX, CallConnection
from swarmd.pki.unlock_key import KEY_BYTES
from swarmd.wire.cluster import GetUnlockKey, UnlockKeyReply
from swarmd.wire.methods import CA_UNLOCK_KEY

log = logging.getLogger(__name__)

CALL_S_MAX: Final = 10.0

Connect = Callable[[], AbstractAsyncContextManager[CallConnection]]
"""Opens a connection to some manager that shows the new certificate."""


async def fetch_unlock_key(connect: Connect) -> UnlockKey:
    """The swarm's unlock key, empty while autolock is off.

    Raises `FailedPrecondition` if the manager is too old to know, or its answer contradicts itself, and what the call
    raises. `Cancelled` leaves nothing behind.
    """
    try:
        async with connect() as connection:
            reply = await connection.call(CA_UNLOCK_KEY, GetUnlockKey(), timeout_s=CALL_S_MAX)
    except Unimplemented:
        raise FailedPrecondition(
            "the swarm's managers are too old to say whether managers' keys are to be locked; nothing was saved",
            hint="upgrade the other managers first",
        ) from None
    return _checked(reply)


async def fetch_patiently(connect: Connect) -> UnlockKey:
    """As `fetch_unlock_key`, in 5 tries 2 s apart: the leader may just be changing. Raises what the last one raised."""
    for left in reversed(range(TRIES_MAX)):
        try:
            return await fetch_unlock_key(connect)
        except TRANSIENT as error:
            if not left:
                raise
            log.warning("could not ask for the unlock key, trying again: %s", error)
        await trio.sleep(RETRY_S)
    raise AssertionError("the last try returns or raises")


def _checked(reply: UnlockKeyReply) -> UnlockKey:
    if len(reply.key) not in (0, KEY_BYTES):
        raise _unbelievable(f"a key of {len(reply.key)} bytes")
    if reply.is_on and not reply.key:
        raise _unbelievable("that autolock is on, and no key")
    if reply.version < bool(reply.key):
        raise _unbelievable("a key without a version")
    return UnlockKey(version=reply.version, key=reply.key)


def _unbelievable(what: str) -> SwarmError:
    return FailedPrecondition(
        f"asked for the unlock key, the swarm answered {what}; nothing was saved", hint="look at the leader's log"
    )
