"""Clients that change and read objects through the managers' sockets, and remember what they were told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import DeadlineExceeded, ErrorKind, Gone, OutcomeUnknown, SwarmError
from swarmd.model import ContainerSpec, Replicated, ServiceSpec, TaskSpec
from swarmd.wire import control, methods
from tests.chaos.history import OK, REFUSED, UNKNOWN, Call

REGISTERS: Final = ("a", "b", "c", "d")
LABEL: Final = "n"
WRITER: Final = {"write": 50, "cas": 42, "create": 8}
READER: Final = {"read": 90, "status": 10}
ROLES: Final = (WRITER, READER, WRITER | READER)
"""How often each is done, by one client in three. A client waits for its answer, and a read through a manager that was
just cut off is not answered: one that only writes goes on for as long as anybody there takes its writes."""

DEFECTS: Final = (ErrorKind.INTERNAL, ErrorKind.INVALID, ErrorKind.UNIMPLEMENTED, ErrorKind.PERMISSION_DENIED)
"""No fault of the network or a machine explains these."""


def holding(name: str, value: int) -> ServiceSpec:
    """A service without tasks whose label is the value."""
    return ServiceSpec(
        name=name,
        labels={LABEL: str(value)},
        task=TaskSpec(container=ContainerSpec(image="none", command=("true",))),
        mode=Replicated(replicas=0),
    )


def value_of(view: control.ServiceView) -> int:
    """What `holding` put in."""
    return int(view.service.spec.labels[LABEL])


class Clients:
    """Threads with a client each, `per_manager` to a manager. `calls` is the history."""

    def __init__(self, sockets: dict[int, Path], *, seed: int, per_manager: int, per_second: float) -> None:
        self.calls: list[Call] = []
        self.epoch = time.monotonic()
        self._sockets = sockets
        self._seed = seed
        self._pause_s = per_manager * len(sockets) / per_second
        self._per_manager = per_manager
        self._values: Iterator[int] = count(1)  # next() is atomic
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._ids: dict[str, str] = {}

    def create_registers(self) -> None:
        """Before anything goes wrong."""
        with Client(self._sockets[1], Environment()) as client:
            for key in REGISTERS:
                request = control.CreateService(spec=holding(f"register-{key}", 0))
                self._ids[key] = client.change(methods.SERVICE_CREATE, request).service.id

    def start(self) -> None:
        """Let them go; the run's time begins."""
        self.epoch = time.monotonic()
        for number in range(len(self._sockets) * self._per_manager):
            manager = 1 + number % len(self._sockets)
            thread = threading.Thread(target=self._run, args=(number, manager), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Let each finish its call; whether all did."""
        self._is_over.set()
        ends = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, number: int, manager: int) -> None:
        rng = random.Random(f"{self._seed} client {number}")
        kinds = ROLES[number // len(self._sockets) % len(ROLES)]
        worker = Worker(number, manager, self._ids, self._values, lambda: time.monotonic() - self.epoch)
        with Client(self._sockets[manager], Environment()) as client:
            while not self._is_over.wait(rng.expovariate(1 / self._pause_s)):
                kind = rng.choices(list(kinds), list(kinds.values()))[0]
                self.calls.append(worker.call(client, kind, rng.choice(REGISTERS)))


class Worker:
    """One client's calls, each told as it went."""

    def __init__(
        self, number: int, manager: int, ids: dict[str, str], values: Iterator[int], clock: Callable[[], float]
    ) -> None:
        self._number = number
        self._manager = manager
        self._ids = ids
        self._values = values
        self._clock = clock
        self._versions = dict.fromkeys(ids, 1)
        """As last seen by this client: what its next `cas` expects."""

    def call(self, client: Client, kind: str, key: str) -> Call:
        """Make one. Only reads of registers and changes have a key."""
        value = next(self._values) if kind in ("create", "write", "cas") else 0
        began = self._clock()
        version, digest, error, outcome = 0, "", "", OK
        expected = self._versions[key] if kind == "cas" else 0
        key = f"object-{value}" if kind == "create" else "" if kind == "status" else key
        try:
            match kind:
                case "create":
                    client.change(methods.SERVICE_CREATE, control.CreateService(spec=holding(key, value)))
                case "write" | "cas":
                    self._change(client, key, value, expected or -1)
                case "read":
                    value, version = self._read(client, key)
                case "status":
                    status = client.status()
                    version, digest = status.applied_index, status.digest.hex()
        except SwarmError as failure:
            outcome, error = _outcome(failure), f"{failure.kind}: {failure}"
        return Call(
            client=self._number,
            manager=self._manager,
            kind=kind,
            key=key,
            value=value,
            began=began,
            ended=self._clock(),
            outcome=outcome,
            version=version,
            expected=expected,
            digest=digest,
            error=error,
        )

    def _change(self, client: Client, key: str, value: int, expected: int) -> None:
        request = control.UpdateService(
            id=self._ids[key], spec=holding(f"register-{key}", value), spec_version=expected
        )
        view = client.change(methods.SERVICE_UPDATE, request)
        self._versions[key] = view.service.spec_version

    def _read(self, client: Client, key: str) -> tuple[int, int]:
        view = client.read(methods.SERVICE_GET, control.GetObject(id=self._ids[key]))
        self._versions[key] = view.service.spec_version
        return value_of(view), view.service.spec_version


def _outcome(failure: SwarmError) -> str:
    # `Gone`: the key is too old for anybody to say whether an earlier try took effect.
    return UNKNOWN if isinstance(failure, OutcomeUnknown | DeadlineExceeded | Gone) else REFUSED


def defects(calls: list[Call]) -> list[str]:
    """Answers that no fault explains."""
    return [f"a defect: {call}" for call in calls if call.error.split(":")[0] in DEFECTS]
