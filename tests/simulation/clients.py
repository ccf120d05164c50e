"""Clients that write and read registers, and remember what they were told."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

from swarmd.errors import SwarmError
from tests.simulation.invariants import Violation
from tests.simulation.linearize import FOREVER, Operation, linearizable

if TYPE_CHECKING:
    from tests.simulation.member import SimulatedMember
    from tests.simulation.world import World

PATIENCE_MS = 1200
THINK_MS = 40
KEYS = ("a", "b", "c")


class Clients:
    """The book of what clients did: outcomes, and the history of each register."""

    def __init__(self, world: World, rng: random.Random, count: int) -> None:
        self.world = world
        self.rng = rng
        self.is_resting = False
        self.history: defaultdict[str, list[Operation]] = defaultdict(list)
        self._values = 0
        self._first_applied: dict[bytes, tuple[int, int]] = {}  # body -> index, step
        self._denied: set[bytes] = set()
        self._bodies: dict[int, bytes] = {}  # value -> body
        for _ in range(count):
            Client(self).pause()

    def new_write(self, body_of: SimulatedMember, key: str) -> tuple[Operation, bytes]:
        """A write of a value never written before."""
        self._values += 1
        body = body_of.machine.command(key, self._values)
        self._bodies[self._values] = body
        return Operation(is_write=True, value=self._values, began=self.world.step), body

    def applied(self, index: int, body: bytes) -> None:
        """A member applied a command: no command takes effect at two indexes, nor after it was denied."""
        first = self._first_applied.setdefault(body, (index, self.world.step))
        if first[0] != index:
            raise Violation(f"{body!r} applied at {first[0]} and at {index}")
        if body in self._denied:
            raise Violation(f"{body!r} took effect after its writer was told that it never would")

    def deny(self, operation: Operation) -> None:
        """Another entry is committed in the place of this write."""
        body = self._bodies[operation.value]
        if body in self._first_applied:
            raise Violation(f"{body!r} took effect, and its writer was told that it never would")
        self._denied.add(body)

    def check(self) -> None:
        """Once all is quiet: every acknowledged write is in the log, every register's history is linearizable.

        The fate of writes that nobody answered is known by now: they were applied, or never will be.
        """
        for key, history in self.history.items():
            known: list[Operation] = []
            for operation in history:
                if operation.is_write:
                    applied = self._first_applied.get(self._bodies[operation.value])
                    if applied is None:
                        if operation.ended < FOREVER:
                            raise Violation(f"acknowledged write of {operation.value} to {key} is lost")
                        continue
                    operation.rank, operation.ended = applied[0], min(operation.ended, applied[1])
                known.append(operation)
            if not linearizable(known):
                raise Violation(f"register {key} is not linearizable: {known}")


class Client:
    """A closed loop: one call (of a few writes, or one read) under way, given up after a while."""

    def __init__(self, book: Clients) -> None:
        self._book = book
        self._call = 0

    def pause(self) -> None:
        """Think, then act."""
        self._call += 1
        book = self._book
        book.world.after(book.rng.expovariate(1 / THINK_MS), self._act, self._call)

    def _act(self, call: int) -> None:
        if call != self._call or self._book.is_resting:
            return
        self._book.world.after(PATIENCE_MS, self._finish, call)
        target, key = self._pick(), self._book.rng.choice(KEYS)
        if target is None:
            return
        if self._book.rng.random() < 0.6:
            self._write(target, key, call)
        else:
            self._read(target, key, call)

    def _finish(self, call: int) -> None:
        if call == self._call:
            self.pause()

    def _pick(self) -> SimulatedMember | None:
        book = self._book
        leaders = [member for member in book.world.leaders() if not member.is_paused]
        if leaders and book.rng.random() < 0.8:
            return book.rng.choice(leaders)
        up = [member for member in book.world.members.values() if member.is_up and not member.is_paused]
        return book.rng.choice(up) if up else None

    def _write(self, target: SimulatedMember, key: str, call: int) -> None:
        book = self._book
        for _ in range(book.world.faults.batch):
            operation, body = book.new_write(target, key)

            def done(took_effect: bool, operation: Operation = operation) -> None:
                if took_effect:
                    operation.ended = book.world.step
                    book.world.count["writes acknowledged"] += 1
                else:
                    book.deny(operation)
                self._finish(call)

            try:
                target.write(body, done)
            except SwarmError:
                self._finish(call)
                return
            book.history[key].append(operation)
        target.drain()

    def _read(self, target: SimulatedMember, key: str, call: int) -> None:
        book = self._book
        operation = Operation(is_write=False, value=0, began=book.world.step)
        machine = target.machine

        def done(index: int) -> None:
            if index < 0:
                book.world.count["reads refused"] += 1
            else:
                operation.ended = book.world.step
                operation.value = machine.read(key)
                book.history[key].append(operation)
                book.world.count["reads"] += 1
            self._finish(call)

        target.read(done)
