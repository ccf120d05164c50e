"""Requests for every method, made from the types in the method table: mostly right in shape, with values that nobody
sends who means well. What a field is called says which value could be right there.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from swarmd.model import Role
from swarmd.pki import Authority, new_key_and_csr
from swarmd.wire.methods import METHODS, Method
from tests.unit.manager.local_store import EPOCH

WORKER: Final = "worker0000000000000000000"
WAITING: Final = "waiting000000000000000000"
SERVICE: Final = "service000000000000000000"
TASK: Final = "task000000000000000000000"
UNKNOWN: Final = "unknown000000000000000000"
MANAGER: Final = "<the manager>"
SESSION: Final = "<the session>"
SWARM: Final = "<the swarm>"
"""Are exchanged for what they are called when the request is sent."""

AUTHORITY: Final = Authority.create(EPOCH)
KEY, CSR = new_key_and_csr()
LEAF: Final = AUTHORITY.sign(CSR, node_id=WORKER, role=Role.WORKER, swarm_id="s" * 25, now=EPOCH, expiry_s=86_400.0)

_INTEGERS: Final = (0, 1, 2, 3, -1, 7, 1000, 2**31, -(2**31), 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS: Final = (0.0, 1.0, 5.0, 3600.0, -0.0, -1.0, 1e-300, 1e308, math.inf, -math.inf, math.nan, EPOCH)
_TEXTS: Final = (
    "", "a", "web", "x" * 64, "x" * 5_000, "../x", "/etc/x", "a/../../b", "a\0b", "a\n", "\u202eabc", "\ufdd0",
    "\U0001f9ff", "se\u0441ret", "%s%n", "{{.__class__}}", "SWMTKN-1-x", "\x1b[31m", "KEY=value", "KEY", "10.0.0.0/8",
    "https://ca.example", "15",
)  # fmt: skip
_BYTES: Final = (b"", b"\0", b"x" * 32, b"x" * 70_000, CSR, LEAF, AUTHORITY.certificate, AUTHORITY.key)
_IDS: Final = (WORKER, WAITING, SERVICE, TASK, UNKNOWN, MANAGER)
_PLAUSIBLE: Final[dict[str, tuple[Any, ...]]] = {
    "id": _IDS,
    "node_id": (WORKER, MANAGER, UNKNOWN),
    "task_id": (TASK, UNKNOWN),
    "service_id": (SERVICE, UNKNOWN),
    "session_id": (SESSION, SESSION, "old"),
    "name": ("web", "db"),
    "ClusterSpec.name": ("default",),
    "UpdateCluster.id": (SWARM,),
    "image": ("nginx:1", "registry.example.org:5000/a/b@sha256:" + "0" * 64),
    "csr": (CSR,),
    "certificate": (LEAF, AUTHORITY.certificate),
    "kind": ("node", "service", "task", "cluster"),
    "addresses": ("192.0.2.7:4242",),
    "replicas": (0, 1, 3, 2**31),
    "version": (0, 1, 2, 3, 4, 5, 6, 7, 8),
}
_WRONG: Final = st.sampled_from((None, True, -1, 2**64 - 1, math.nan, "", "\0", b"", [], {}, [[]], {"": 0}))


def requests() -> st.SearchStrategy[tuple[str, Any]]:
    """A method's name and a body."""
    return st.sampled_from(sorted(METHODS)).flatmap(
        lambda name: st.tuples(st.just(name), bodies(METHODS[name]))
    )  # fmt: skip


def bodies(method: Method[Any, Any]) -> st.SearchStrategy[Any]:
    """Of one method: half of them calm, with little that is odd, so that some take effect; the others wild; and one in
    twenty not of its shape at all."""
    type_ = inspect.type_info(method.request)
    calm, wild = _of(type_, "", calm=True), _of(type_, "", calm=False)
    return st.integers(0, 19).flatmap(lambda one: _WRONG if not one else calm if one % 2 else wild)


def _of(type_: inspect.Type, field: str, *, calm: bool) -> st.SearchStrategy[Any]:
    """Builtins that could be of this type, at a field of this name."""
    right = _right(type_, field, calm=calm)
    return right if calm else st.integers(0, 99).flatmap(lambda one: right if one else _WRONG)


def _right(type_: inspect.Type, field: str, *, calm: bool) -> st.SearchStrategy[Any]:
    likely = _PLAUSIBLE.get(field, ())
    match type_:
        case inspect.StructType():
            return _struct(type_, calm=calm)
        case inspect.UnionType(types=types):
            return st.one_of([_right(one, field, calm=calm) for one in types])
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            few = st.lists(_of(item, field, calm=calm), max_size=2)
            return few if calm else few | st.just(_many(item))
        case inspect.DictType():
            return st.dictionaries(st.sampled_from(_TEXTS), st.sampled_from(_TEXTS), max_size=3)
        case inspect.EnumType(cls=cls):
            return st.sampled_from([member.value for member in cls] + ([] if calm else [99, -1, "NOBODY", ""]))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return _either(likely or (0, 1, 2, 3), _INTEGERS, calm=calm)
        case inspect.FloatType():
            return _either((0.0, 1.0, 5.0, 3600.0), _FLOATS, calm=calm)
        case inspect.StrType():
            return _either(likely or ("", "a", "web"), _TEXTS + _IDS, calm=calm)
        case inspect.BytesType():
            return _either(likely or (b"", b"x" * 32), _BYTES, calm=calm)
        case inspect.NoneType():
            return st.none()
        case _:
            raise AssertionError(f"no requests of type {type_} are made yet")


def _either(likely: tuple[Any, ...], odd: tuple[Any, ...], *, calm: bool) -> st.SearchStrategy[Any]:
    fitting = st.sampled_from([value for value in likely if type(value) is type(odd[0])] or [odd[0]])
    share = 1 if calm else 12
    return st.integers(0, 23).flatmap(lambda one: st.sampled_from(odd) if one < share else fitting)


def _many(item: inspect.Type) -> list[Any]:
    """More than anybody needs."""
    if isinstance(item, inspect.StrType):
        return [f"K{number}=v" for number in range(2_000)]
    return [b"x"] * 2_000 if isinstance(item, inspect.BytesType) else []


@st.composite
def _struct(draw: st.DrawFn, type_: inspect.StructType, *, calm: bool) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for field in type_.fields:
        share = (
            98
            if field.required or field.encode_name in ("spec", "task", "container", "image", "name")
            else 4
            if calm
            else 25
        )
        if draw(st.integers(0, 99)) < share:
            full_name = f"{type_.cls.__name__}.{field.encode_name}"
            name = full_name if full_name in _PLAUSIBLE else field.encode_name
            body[field.encode_name] = draw(_of(field.type, name, calm=calm))
    if draw(st.integers(0, 199)) == 0:
        body["unknown_field"] = 1
    return body


def exchanged(body: Any, of: dict[str, str]) -> Any:
    """`body` with its placeholders exchanged."""
    match body:
        case str():
            return of.get(body, body)
        case dict():
            return {key: exchanged(value, of) for key, value in body.items()}
        case list():
            return [exchanged(item, of) for item in body]
        case _:
            return body


def is_read(method: Method[Any, Any], body: Any) -> bool:
    """Whether it has the shape of the method's request, so that a handler sees it."""
    try:
        msgspec.convert(body, method.request, builtin_types=(bytes,))
    except msgspec.ValidationError:
        return False
    return True
