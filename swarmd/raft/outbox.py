"""What is to be said, and whether it may be said before the disk has answered."""

from __future__ import annotations

from swarmd.raft.types import Message, MessageType


class Outbox:
    """Messages since the last `Ready`, in order. Acknowledgements to one leader are merged: they are cumulative."""

    def __init__(self, member_id: int) -> None:
        self._member_id = member_id
        self._at_once: list[Message] = []
        self._after_persist: list[Message] = []
        self._ack: tuple[int, int, int] | None = None  # target, term, index

    def __bool__(self) -> bool:
        return bool(self._at_once or self._after_persist or self._ack is not None)

    def post(self, message: Message) -> None:
        """Say it now: it claims nothing that is not durable yet."""
        self._at_once.append(message)

    def post_durable(self, message: Message) -> None:
        """Say it once everything handed over so far, hard state included, is durable."""
        self._after_persist.append(message)

    def acknowledge(self, target: int, term: int, index: int) -> None:
        """Tell the leader that everything up to `index` is here, once it is durable."""
        if self._ack is not None:
            if self._ack[:2] == (target, term):
                index = max(index, self._ack[2])
            else:
                self._flush_ack()
        self._ack = (target, term, index)

    def take(self) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """(at once, after persist)."""
        self._flush_ack()
        at_once, after = tuple(self._at_once), tuple(self._after_persist)
        self._at_once.clear()
        self._after_persist.clear()
        return at_once, after

    def _flush_ack(self) -> None:
        if self._ack is not None:
            target, term, index = self._ack
            self._ack = None
            self._after_persist.append(
                Message(type=MessageType.APPEND_REPLY, source=self._member_id, target=target, term=term, index=index)
            )
