"""The two ways to the state: `read` after a read index, `write` as a transaction that a retry cannot repeat."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import msgspec
import trio

from swarmd.errors import Gone, Invalid, OutcomeUnknown
from swarmd.manager.proposer import Store
from swarmd.state.command import IdempotencyKey, Outcome, Verdict
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call
from swarmd.wire import codec
from swarmd.wire.methods import Method

T = TypeVar("T")

IDEMPOTENCY_KEY_BYTES_MAX: Final = 64
ANSWER_MARGIN_S: Final = 0.2
"""A write gives up this long before the caller's deadline, so that "outcome unknown" still reaches the caller."""

Recall = Callable[[IdempotencyKey, str], Outcome | None]
"""What a command of this actor with this key would get without acting (`State.known_result`); None: it would act."""

Admit = Callable[[Method[Any, Any]], None]
"""Raises if a change by this method may not be made now."""


def admit_all(method: Method[Any, Any]) -> None:
    """Nothing is refused."""


class Written(msgspec.Struct, Generic[T], frozen=True):
    """A committed write. `result` is None when an earlier try of the same request had already done it: the caller is
    answered with the object as it is now. `object_id` then is what that earlier try created or updated."""

    result: T | None
    index: int
    object_id: str = ""


class Access:
    """What every handler is given."""

    def __init__(
        self,
        store: Store,
        *,
        linearize: Callable[[], Awaitable[None]],
        recall: Recall,
        admit: Admit = admit_all,
    ) -> None:
        self._store = store
        self._linearize = linearize
        self._recall = recall
        self._admit = admit

    @property
    def state(self) -> State:
        """The state as it is: valid until the next `await`."""
        return self._store.state

    async def read(self, call: Call) -> State:
        """The state, at least as new as when the call began; whatever this manager has if the caller asked for
        `stale`. Raises `Unavailable` without a quorum."""
        if not call.headers.stale:
            await self.linearize()
        return self._store.state

    async def linearize(self) -> None:
        """Return once the state is at least as new as anything that was done when this was called. Raises as `read`."""
        await self._linearize()

    async def write(
        self, call: Call, request: Any, fn: Callable[[Transaction], T], *, keyed: bool = True
    ) -> Written[T]:
        """Run `fn` as one transaction in the caller's name.

        With an idempotency key, a request that already took effect is not run again, even where `fn` would now refuse
        it (its own earlier try took the name). `keyed=False` is for the preliminary steps of a write in several.
        Raises what `fn` and `admit` raise, `Conflict`, `Unavailable`; `OutcomeUnknown` just before the caller's
        deadline. `Cancelled` leaves the outcome unknown.
        """
        key = _key(call, request) if keyed else None

        def once(tx: Transaction) -> Written[T]:
            known = self._recall(key, call.caller.actor) if key is not None else None
            if known is not None:
                return _done_before(known)
            self._admit(call.method)
            return Written(fn(tx), 0)

        with trio.move_on_at(_give_up_at(call)):
            written, index = await self._store.update(once, actor=call.caller.actor, key=key)
            return written if written.index else Written(written.result, index)
        raise OutcomeUnknown(
            "the change was not confirmed in time and may still take effect", hint="look before you try again"
        )


def _key(call: Call, request: Any) -> IdempotencyKey | None:
    headers = call.headers
    if not headers.key:
        return None
    if len(headers.key) > IDEMPOTENCY_KEY_BYTES_MAX:
        raise Invalid(f"an idempotency key has at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes")
    digest = hashlib.sha256(call.method.name.encode() + b"\0" + codec.encode(request)).digest()
    return IdempotencyKey(headers.key, digest, headers.seen_index)


def _done_before(known: Outcome) -> Written[Any]:
    """The answer to a retry. The proposer says the same where apply is the first to know."""
    match known.verdict:
        case Verdict.KEY_MISUSED:
            raise Invalid("this idempotency key was used for another request", hint="make a new key for each request")
        case Verdict.KEY_GONE:
            raise Gone("this idempotency key is too old to say whether its request took effect", hint="look first")
        case _:
            return Written(None, known.index, known.object_id)


def _give_up_at(call: Call) -> float:
    return call.deadline - ANSWER_MARGIN_S if math.isfinite(call.deadline) else math.inf
