"""Files that the first version wrote, read by every later one.

The files in `golden/` are never made again: a change that cannot read them needs a new format version and a migration.
`write_golden` shows how they came about, and writes those of a new version.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus
from swarmd.raft import Configuration, Entry, EntryKind, HardState, Member, SnapshotMeta
from swarmd.storage import data_keys
from swarmd.storage.known_managers import KnownManager, NodeFile, NodeFileContents
from swarmd.storage.log_contract import LogBatch, LogIdentity, StoredLog
from swarmd.storage.log_store import LogStore
from swarmd.storage.sealing import KEY_BYTES, Sealer, sealing_context
from swarmd.storage.snapshot_store import SnapshotStore
from swarmd.storage.task_store import TaskStore
from swarmd.wire.raft_codec import encode_runs

GOLDEN = Path(__file__).with_name("golden") / "v1"

SWARM = "4x1p0h6tq2m9w8z7k5j3c0v1b"
NODE = "0a1b2c3d4e5f6g7h8i9j0k1l2"
IDENTITY = LogIdentity(swarm_id=SWARM, node_id=NODE, member_id=(1 << 62) + 5, incarnation=bytes(range(16)))
MEMBER = Member(
    member_id=IDENTITY.member_id, node_id=NODE, addresses=("192.0.2.1:4242", "[2001:db8::1]:4242"), is_voter=True
)
META = SnapshotMeta(index=3, term=1, configuration=Configuration(members=(MEMBER,), removed=(99,)))
ENTRIES = (
    Entry(2, 1, EntryKind.CONFIG, b"a membership change"),
    Entry(3, 1, EntryKind.DATA, b""),
    Entry(4, 1, EntryKind.DATA, b"a command"),
    Entry(5, 3, EntryKind.NOOP),
    Entry(6, 3, EntryKind.DATA, bytes(range(256)) * 20),
)
STATE = HardState(term=3, voted_for=IDENTITY.member_id, commit=4)
CHUNKS = (b"header", b"", b"tables" * 100)
TASK = Task(id="6z5y4x3w2v1u0t9s8r7q6p5o4", service_name="web", spec=TaskSpec(container=ContainerSpec(image="nginx")))
STATUS = TaskStatus(state=TaskState.RUNNING, at=1700000000.5, message="started")
CONTENTS = NodeFileContents(
    managers=(KnownManager(node_id=NODE, addresses=MEMBER.addresses, last_seen_at=1700000000.5),),
    has_been_member=True,
    remote_port=4243,
)


def sealer_of(directory: Path) -> Sealer:
    keys = data_keys.load(directory / "data-keys.cbor")
    assert keys is not None
    return Sealer(keys.by_id, keys.current, sealing_context(SWARM, IDENTITY.member_id))


def write_golden(directory: Path) -> None:
    """Everything this package writes, some of it under an older key."""
    keys = data_keys.load_or_create(directory / "data-keys.cbor", lambda count: bytes(range(count)))
    log = LogStore.open(directory / "raft.db", sealer_of(directory))
    log.initialise(IDENTITY)
    log.write(LogBatch(runs=encode_runs([Entry(1, 1, EntryKind.NOOP)])))
    log.write(LogBatch(runs=encode_runs(ENTRIES[:3])))
    log.close()
    data_keys.save(directory / "data-keys.cbor", keys.with_new(bytes(range(100, 100 + KEY_BYTES))))
    log = LogStore.open(directory / "raft.db", sealer_of(directory))
    log.record_snapshot(META, keep_from=2)
    log.write(LogBatch(hard_state=STATE, runs=encode_runs(ENTRIES[3:])))
    log.close()
    SnapshotStore(directory, sealer_of(directory)).save(META, CHUNKS)
    tasks = TaskStore.open(directory / "tasks.db")
    tasks.put([TASK])
    tasks.put_status([(TASK.id, STATUS)])
    tasks.close()
    NodeFile(directory / "state.cbor").save(CONTENTS)


def check(directory: Path) -> None:
    """What `write_golden` wrote is there."""
    assert LogStore.read_identity(directory / "raft.db") == IDENTITY
    log = LogStore.open(directory / "raft.db", sealer_of(directory))
    assert log.load() == StoredLog(identity=IDENTITY, hard_state=STATE, snapshot=META, entries=ENTRIES)
    log.write(LogBatch(runs=encode_runs([Entry(7, 3, EntryKind.NOOP)])))
    log.close()
    assert tuple(SnapshotStore(directory, sealer_of(directory)).read(META)) == CHUNKS
    tasks = TaskStore.open(directory / "tasks.db")
    (task,) = tasks.load()
    assert (task.id, task.service_name, task.spec.container.image, task.status) == (TASK.id, "web", "nginx", STATUS)
    tasks.close()
    assert NodeFile(directory / "state.cbor").load() == CONTENTS


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.parent.iterdir()))
def test_files_of_every_version_are_read(version: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parent / version, tmp_path / version)
    check(tmp_path / version)


def test_files_of_this_version_are_read(tmp_path: Path) -> None:
    write_golden(tmp_path)
    check(tmp_path)


@pytest.mark.parametrize(("name", "version"), [("data-keys.cbor", "v2"), ("state.cbor", "v1")])
def test_the_plain_files_are_byte_for_byte_what_their_last_format_was(name: str, version: str, tmp_path: Path) -> None:
    write_golden(tmp_path)
    assert (tmp_path / name).read_bytes() == (GOLDEN.parent / version / name).read_bytes()
