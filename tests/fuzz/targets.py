"""What is fed with bytes: every reader of what comes from elsewhere. Each lets through the errors that it documents,
and says so if what it read does not mean the same when it is written again.

Imported under instrumentation by `run`, and as it is by `test_seeds`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from swarmctl import values
from swarmctl.flags.endpoint import parse_ports
from swarmd.errors import FailedPrecondition, Invalid, SwarmError, Unavailable, Unimplemented
from swarmd.executor.contract import TaskError
from swarmd.executor.process.plan import decode_stop
from swarmd.executor.process.plan import parse_signal as parse_task_signal
from swarmd.manager.external_ca import read_answer
from swarmd.manager.peer_address import host_of
from swarmd.model import Node, NodeStatus
from swarmd.model.constraints import matches, parse_constraint
from swarmd.model.generic_resources import format_generic_resources, parse_generic_resources
from swarmd.model.image import image_problem
from swarmd.node.config import parse_endpoint
from swarmd.node.unlocking import read_key_file
from swarmd.pki import (
    authenticate_renewal,
    check_csr,
    check_root,
    is_join_code,
    is_manager_of,
    join_code,
    normal_root,
    parse_token,
    read_subject,
    root_digest,
    root_expiry,
    same_code,
    verify_issued,
)
from swarmd.pki.pem import load_certificates, load_key, load_signing_key
from swarmd.pki.unlock_key import Wraps, parse_unlock_key, show_unlock_key
from swarmd.raft import SnapshotMeta
from swarmd.raft.membership import decode_change, encode_change
from swarmd.state.command import decode_command, encode_command
from swarmd.state.digest import hash_slices, run_through
from swarmd.state.snapshot import SnapshotReader, encode_snapshot
from swarmd.state.store import State
from swarmd.storage import data_keys
from swarmd.storage.disk_seal import parse_sealed
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.join_request import JoinRequestFile
from swarmd.storage.known_managers import NodeFile
from swarmd.storage.sealing import Sealer
from swarmd.transport.dialer import parse_address
from swarmd.transport.events import Opened
from swarmd.transport.places import network_of
from swarmd.transport.session import ANONYMOUS, AUTHENTICATED, Session
from swarmd.wire.authorise import origin
from swarmd.wire.codec import convert, encode, loads
from swarmd.wire.frames import Hello, decode_frame, error_body, error_from_body
from swarmd.wire.identity import Caller
from swarmd.wire.raft_codec import decode_message, encode_message
from tests.golden.add_commands import HISTORIES, samples

Target = Callable[[bytes], None]

NOW: Final = 1_800_000_000.0
META: Final = SnapshotMeta(index=1, term=1)


def codec(data: bytes) -> None:
    """What every frame, entry and file goes through."""
    with contextlib.suppress(Invalid):
        value = loads(data)
        _require_plain(value)


def _require_plain(value: Any) -> None:
    """Only data, and what `convert` refuses; never an object that somebody's tag asked for."""
    match value:
        case dict():
            assert all(type(key) is str for key in value) or _is_refused(value)
            for item in value.values():
                _require_plain(item)
        case list():
            for item in value:
                _require_plain(item)
        case None | bool() | int() | float() | str() | bytes():
            return
        case _:
            assert type(value).__name__ in ("undefined_type", "UndefinedType", "CBORSimpleValue"), type(value)


def _is_refused(value: Any) -> bool:
    try:
        convert(value, dict[str, Any])
    except Invalid:
        return True
    return False


def frames(data: bytes) -> None:
    """One WebSocket message; of an OPEN, the body as its method would read it."""
    try:
        frame = decode_frame(data)
    except (Invalid, Unimplemented) as error:
        _told(error)
        return
    session = _session(AUTHENTICATED)
    with contextlib.suppress(SwarmError):
        event = session.receive(data)
        if isinstance(event, Opened) and event.method is not None:
            origin(Caller(), event.headers)
            request = convert(event.body, event.method.request)
            again = convert(loads(encode(request)), event.method.request)
            assert encode(again) == encode(request)
    del frame


def session(data: bytes) -> None:
    """A conversation: frames one after the other, each behind two bytes with its length."""
    for limits in (AUTHENTICATED, ANONYMOUS):
        ours = _session(limits)
        for frame in _pieces(data):
            try:
                event = ours.receive(frame)
            except SwarmError as error:
                _told(error)
                break
            if isinstance(event, Opened) and event.stream in ours and event.stream % 4 == 1:
                decode_frame(ours.error(event.stream, Invalid("no")))
        assert len(ours) <= limits.streams_max


def _session(limits: Any) -> Session:
    ours = Session(is_dialer=False, hello=Hello(), limits=limits)
    ours.receive(Session(is_dialer=True, hello=Hello()).greeting())
    return ours


def _pieces(data: bytes) -> list[bytes]:
    pieces = []
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        pieces.append(data[2 : 2 + length])
        data = data[2 + length :]
    return pieces


def _told(error: SwarmError) -> None:
    """Every refusal can be told to a peer, and is understood there."""
    body = error_body(error)
    assert error_from_body(convert(loads(encode(body)), type(body))).kind is error.kind


def raft(data: bytes) -> None:
    """A Raft message with its entries."""
    with contextlib.suppress(Invalid):
        message, runs = decode_message(data)
        again, _ = decode_message(encode_message(message, runs))
        assert again == message


def membership(data: bytes) -> None:
    """The body of a configuration entry."""
    with contextlib.suppress(Invalid):
        change = decode_change(data)
        assert decode_change(encode_change(change)) == change


def command(data: bytes) -> None:
    """The body of an entry of the log."""
    with contextlib.suppress(Invalid):
        read = decode_command(data)
        body = encode_command(read)
        assert encode_command(decode_command(body)) == body


_HISTORIES: list[list[bytes]] = []
_TERM: Final = 3
"""Of the golden histories."""


def apply(data: bytes) -> None:
    """An entry in the place that its number gives it in each golden history: it takes effect or is refused, alike on a
    manager that applied all of it and on one that began with a snapshot, which it leaves readable."""
    if not _HISTORIES:
        _HISTORIES.extend(list(samples(history)[0].values()) for history in HISTORIES)
    try:
        place = decode_command(data).id.sequence - 1
    except Invalid:
        return
    for history in _HISTORIES:
        with contextlib.suppress(Invalid):  # it claims what no program knows: such an entry stops a manager
            _play(history, place, data)


def _play(history: list[bytes], place: int, data: bytes) -> None:
    before, after = history[: max(place, 0)], history[max(place, 0) :]
    one = State()
    _apply_all(one, [*before, data])
    meta = SnapshotMeta(index=one.index, term=_TERM)
    other = State()
    try:
        other.restore(meta, list(encode_snapshot(one.capture(), meta)))
    except Invalid as error:
        raise AssertionError("its own snapshot cannot be read") from error
    for state in (one, other):
        _apply_all(state, [data, *after])
    assert one.digest == other.digest
    assert run_through(hash_slices(one.capture())) == run_through(hash_slices(other.capture()))


def _apply_all(state: State, bodies: list[bytes]) -> None:
    for body in bodies:
        state.apply(state.index + 1, _TERM, body)


def snapshot(data: bytes) -> None:
    """A snapshot as it comes from a leader or a disk, in two pieces."""
    reader = SnapshotReader()
    with contextlib.suppress(Invalid):
        middle = len(data) // 2
        reader.feed(data[:middle])
        reader.feed(data[middle:])
        reader.finish(META)


_SEALER: Final = Sealer({1: bytes(32)}, 1, b"context")


def sealed(data: bytes) -> None:
    """A sealed blob of the log, a snapshot or the audit trail."""
    with contextlib.suppress(StorageDamaged):
        _SEALER.open(data, b"what")
        raise AssertionError("nobody can seal without the key")


class _File:
    """Stands for a path, where a reader wants a file: no disk is touched."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        return self._content

    def open(self, *_: Any) -> Any:
        import io

        return io.BytesIO(self._content)


def files(data: bytes) -> None:
    """The files of a state directory."""
    file: Any = _File(data)
    with contextlib.suppress(StorageDamaged, FailedPrecondition):
        data_keys.decode(data, Path("data-keys.cbor"))
    data_keys.is_sealed(data)
    for kind in Wraps:
        with contextlib.suppress(StorageDamaged, FailedPrecondition):
            parse_sealed(data, kind, Path("sealed"))
    with contextlib.suppress(StorageDamaged, FailedPrecondition):
        NodeFile(file).load()
    JoinRequestFile(file).load()
    with contextlib.suppress(Invalid):
        read_key_file(file)
    decode_stop(data)


_ROOT: list[bytes] = []


def pem(data: bytes) -> None:
    """Certificates, requests and keys, from joiners, managers, operators and external CAs."""
    if not _ROOT:
        from swarmd.pki import Authority

        _ROOT.append(Authority.create(NOW).certificate)
    for read in (
        check_csr,
        load_certificates,
        load_key,
        load_signing_key,
        read_subject,
        normal_root,
        root_expiry,
        lambda text: check_root(text, now=NOW),
        lambda text: verify_issued(text, root=_ROOT[0], key=_KEY, now=NOW),
        lambda text: authenticate_renewal(text, text, b"x" * 70, root=_ROOT[0]),
        lambda text: authenticate_renewal(text, text, b"x" * 70, root=text),
        lambda text: join_code(_ROOT[0], text),
        lambda text: is_manager_of(text, _ROOT[0], now=NOW),
    ):
        with contextlib.suppress(Invalid):
            read(data)
    root_digest(data)


_KEY: Final = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def der(data: bytes) -> None:
    """The same behind the armour, where a mutation reaches the fields."""
    import base64

    body = base64.encodebytes(data)
    for name in (b"CERTIFICATE", b"CERTIFICATE REQUEST", b"PRIVATE KEY"):
        pem(b"-----BEGIN " + name + b"-----\n" + body + b"-----END " + name + b"-----\n")
    with contextlib.suppress(Invalid):
        read_subject(data, der=True)


def _task_signal(text: str) -> None:
    with contextlib.suppress(TaskError):
        parse_task_signal(text)


A_NODE: Final = Node(id="n1", status=NodeStatus(addr="192.0.2.1"))


def texts(data: bytes) -> None:
    """What people type, and what peers call themselves."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (
        parse_token,
        parse_unlock_key,
        lambda given: parse_endpoint(given, flag="--flag"),
        lambda given: parse_endpoint(given, flag="--flag", default_port=1),
        parse_address,
        _task_signal,
        image_problem,
        lambda given: values.parse_duration(given, "--flag"),
        lambda given: values.parse_memory(given, "--flag"),
        lambda given: values.parse_cpus(given, "--flag"),
        lambda given: values.parse_integer(given, "--flag"),
        lambda given: values.parse_condition(given, "--flag"),
        lambda given: values.parse_pairs((given,), "--flag"),
        values.parse_signal,
        is_join_code,
        lambda given: same_code(given, "aaaa-bbbb"),
        host_of,
        network_of,
        parse_constraint,
        lambda given: parse_generic_resources(given, field="--flag"),
        lambda given: parse_ports(given, "--publish"),
    ):
        with contextlib.suppress(Invalid):
            read(text)
    with contextlib.suppress(Invalid):
        token = parse_token(text)
        assert text == f"SWMTKN-1-{token.digest}-{token.secret}"
    with contextlib.suppress(Invalid):
        constraint = parse_constraint(text)
        assert parse_constraint(str(constraint)) == constraint
        matches(A_NODE, constraint)
    with contextlib.suppress(Invalid):
        resources = parse_generic_resources(text, field="--flag")
        assert parse_generic_resources(format_generic_resources(resources), field="--flag") == resources
    with contextlib.suppress(Invalid):
        assert show_unlock_key(parse_unlock_key(text)) == text


def answers(data: bytes) -> None:
    """What an external CA answers."""
    with contextlib.suppress(Unavailable, FailedPrecondition):
        read_answer(data)


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        codec, frames, session, raft, membership, command, apply, snapshot, sealed, files, pem, der, texts, answers,
    )
}  # fmt: skip
