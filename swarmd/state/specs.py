"""One object for equal task specs, and one encoding of it: the tasks of a service all carry the same spec.

Equal means equal to the last bit (the same msgpack), so sharing changes nothing that could be seen: neither what an
object encodes to nor what a replica holds. A memo of a pure function: bounded, and one for all states of a process.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from swarmd.model import ContainerSpec, Service, StoredObject, Task, TaskSpec
from swarmd.wire.codec import encode

SPECS_MAX: Final = 1024
"""Specs that are remembered; when there are more, all are forgotten, and those in use soon remembered again."""
SPEC_BYTES_MAX: Final = 8 << 10
"""A larger spec is not remembered: all together take 24 MiB at most."""
NO_SPEC: Final = TaskSpec(container=ContainerSpec(image=""))
"""Stands for a task's spec where that is handled apart."""

_encode: Final = msgspec.msgpack.Encoder().encode


class _Known:
    """A spec that is remembered, its size as msgpack, and its CBOR once that was wanted twice."""

    __slots__ = ("data", "is_encoded_often", "size", "spec")

    def __init__(self, spec: TaskSpec, size: int) -> None:
        self.spec = spec
        self.size = size
        self.is_encoded_often = False
        self.data: bytes | None = None


class SharedSpecs:
    """The specs that are remembered, by content and by identity.

    Args:
        specs_max: how many.
    """

    def __init__(self, specs_max: int = SPECS_MAX) -> None:
        self._specs_max = specs_max
        self._by_content: dict[bytes, _Known] = {}
        self._by_identity: dict[int, _Known] = {}
        """`id(spec)`: every spec in here is alive, because it is in here."""

    def __len__(self) -> int:
        return len(self._by_content)

    def find(self, spec: TaskSpec) -> tuple[TaskSpec, int] | None:
        """The shared spec that is written like `spec`, which need not be in normal form, and its size as msgpack; None
        if there is none yet. Raises as msgspec does for what cannot be encoded."""
        known = self._by_identity.get(id(spec))
        if known is None or known.spec is not spec:
            known = self._by_content.get(_encode(spec))
            if known is None:
                return None
        return known.spec, known.size

    def share(self, spec: TaskSpec) -> TaskSpec:
        """The one object for all equals of `spec`, which is in normal form; `spec` itself if it is the first."""
        known = self._by_identity.get(id(spec))
        if known is not None and known.spec is spec:
            return spec
        content = _encode(spec)
        known = self._by_content.get(content)
        if known is not None:
            return known.spec
        if len(content) <= SPEC_BYTES_MAX:
            if len(self._by_content) >= self._specs_max:
                # New dicts, not fewer items: another thread may be reading (a state is rebuilt in one at start).
                self._by_content, self._by_identity = {}, {}
            self._by_content[content] = self._by_identity[id(spec)] = _Known(spec, len(content))
        return spec

    def encoded(self, spec: TaskSpec) -> bytes | None:
        """The CBOR of a shared spec from the second time on that it is asked for: many are written only once."""
        known = self._by_identity.get(id(spec))
        if known is None or known.spec is not spec:
            return None
        if known.data is None:
            if not known.is_encoded_often:
                known.is_encoded_often = True
                return None
            known.data = encode(spec)
        return known.data


SPECS: Final = SharedSpecs()


def shared(object: StoredObject) -> StoredObject:
    """`object` (in normal form), with the one spec that stands for all equal ones: a task, and the service whose
    template its tasks are made of."""
    if type(object) is Task:
        spec = SPECS.share(object.spec)
        return object if spec is object.spec else replace(object, spec=spec)
    if type(object) is Service:
        spec = SPECS.share(object.spec.task)
        return object if spec is object.spec.task else replace(object, spec=replace(object.spec, task=spec))
    return object
