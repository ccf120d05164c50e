"""Add commands and snapshots to the golden corpus: `python -m tests.golden.add_commands`.

A file that exists is never changed: whatever was once written must be readable for ever.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from swarmd.model import (
    Cluster,
    ContainerSpec,
    ContainerStatus,
    JoinTokens,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeState,
    NodeStatus,
    Platform,
    RemovedNode,
    Resources,
    RootCA,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.raft import Configuration, Member, SnapshotMeta
from swarmd.state import CommandId, IdempotencyKey, State, Table, Transaction, encode_command, encode_snapshot
from tests.golden import kinds, orchestration, security

FOLDER = Path(__file__).parent
NOW = 1_700_000_000.25
SPEC = TaskSpec(
    container=ContainerSpec(
        image="registry.example.com/web:1",
        command=("/usr/bin/web", "--port", "8080"),
        env=("LOG_LEVEL=info", "GREETING=grüß dich"),
        labels={"team": "web", "a": "b"},
        stop_grace_period_s=2,
    )
)
READY = NodeStatus(state=NodeState.READY, addr="192.0.2.1:4242", confirmed=True)
PENDING = TaskStatus(state=TaskState.PENDING, at=NOW, message="pending task scheduling")
ASSIGNED = TaskStatus(state=TaskState.ASSIGNED, at=NOW + 1, message="scheduler assigned task to node")
RUNNING = TaskStatus(state=TaskState.RUNNING, at=NOW + 2, container=ContainerStatus(container_id="c1", pid=4711))
FAILED = TaskStatus(state=TaskState.FAILED, at=NOW + 3, err="exit 7", container=ContainerStatus(exit_code=7))


def a_node(number: int) -> Node:
    description = NodeDescription(
        hostname=f"host-{number}",
        platform=Platform(architecture="x86_64", os="linux"),
        resources=Resources(nano_cpus=2_000_000_000, memory_bytes=1 << 33),
        engine_labels={"disk": "ssd"},
        features=("swarm.1",),
    )
    certificate = NodeCertificate(csr=b"\x00csr\xff", certificate=b"pem", expires_at=NOW + 90.5)
    return Node(id=f"node{number:021}", description=description, status=READY, certificate=certificate)


def a_task(number: int, **fields: object) -> Task:
    task = Task(
        id=f"task{number:021}",
        service_id="service".ljust(25, "0"),
        service_name="web",
        slot=number,
        spec=SPEC,
        labels={"l": "1"},
        status=TaskStatus(at=NOW, message="created"),
    )
    return replace(task, **fields)


SERVICE = Service(id="service".ljust(25, "0"), spec=ServiceSpec(name="Web", labels={"l": "1"}, task=SPEC))
CLUSTER = Cluster(
    id="cluster".ljust(25, "0"),
    root_ca=RootCA(certificate=b"pem", key=b"\x01key", join_tokens=JoinTokens(worker="w", manager="m")),
    feature_level=("swarm.1",),
)


def create_the_swarm(tx: Transaction) -> None:
    tx.create(CLUSTER)
    tx.create(a_node(1))
    tx.create(a_node(2))


def create_a_service(tx: Transaction) -> None:
    if tx.service_by_name("web") is None:
        tx.create(SERVICE)


def create_tasks(tx: Transaction) -> None:
    tx.service(SERVICE.id)
    tx.tasks_of_service(SERVICE.id)
    for number in range(1, 6):
        tx.tasks_of_slot(SERVICE.id, number)
        tx.create(a_task(number))


def advance(tx: Transaction) -> None:
    for number in range(1, 5):
        tx.advance(a_task(number).id, PENDING)


def assign(tx: Transaction) -> None:
    tx.assign(a_task(1).id, a_node(1).id, ASSIGNED)
    tx.assign(a_task(2).id, a_node(2).id, ASSIGNED)
    tx.assign(a_task(3).id, a_node(1).id, replace(ASSIGNED, message="another"))


def report(tx: Transaction) -> None:
    tx.task(a_task(1).id)
    tx.report(a_node(1).id, a_task(1).id, RUNNING)
    tx.report(a_node(2).id, a_task(2).id, FAILED)
    tx.report("", a_task(4).id, RUNNING)


def update_and_remove(tx: Transaction) -> None:
    tx.require_node_ready(a_node(1).id)
    held = tx.service(SERVICE.id)
    assert held is not None
    spec = replace(held.spec, labels={"l": "2"})
    tx.update(replace(held, spec=spec, spec_version=4, previous_spec=held.spec))
    task = tx.task(a_task(1).id)
    assert task is not None
    tx.update(replace(task, desired_state=TaskState.SHUTDOWN))
    tx.remove(Table.TASK, a_task(2).id)
    tx.tasks_of_node(a_node(2).id)
    tx.remove(Table.NODE, a_node(2).id)
    tx.create(RemovedNode(id=a_node(2).id, expires_at=int(NOW)))


STEPS: dict[str, Callable[[Transaction], object]] = {
    "create-the-swarm": create_the_swarm,
    "create-a-service": create_a_service,
    "create-tasks": create_tasks,
    "advance": advance,
    "assign": assign,
    "report": report,
    "update-and-remove": update_and_remove,
}


HISTORIES: dict[str, dict[str, Callable[[Transaction], object]]] = {
    "small": STEPS,
    "kinds": kinds.STEPS,
    "security": security.STEPS,
    "orchestration": orchestration.STEPS,
}
"""Each begins with an empty state and ends with a snapshot of its name."""


def meta_at(index: int) -> SnapshotMeta:
    """What the corpus' snapshots are of."""
    member = Member(member_id=1, node_id=a_node(1).id, addresses=("192.0.2.1:4242",), is_voter=True)
    return SnapshotMeta(index=index, term=3, configuration=Configuration(members=(member,), removed=(9,)))


def samples(history: str) -> tuple[dict[str, bytes], bytes]:
    """The commands of a history by name, and the snapshot at its end."""
    state, commands = State(), {}
    for sequence, (name, step) in enumerate(HISTORIES[history].items(), 1):
        tx = state.begin(NOW + sequence, random.Random(sequence))
        step(tx)
        key = IdempotencyKey(b"key%d" % sequence, bytes(range(32)), state.index) if sequence % 2 else None
        id = CommandId((1 << 62) + 1, bytes(range(16)), sequence)
        command = tx.command(id, actor="root", term=0 if sequence % 2 else 3, key=key)
        commands[name] = encode_command(command)
        state.apply(state.index + 1, 3, commands[name], command)
    return commands, b"".join(encode_snapshot(state.capture(), meta_at(state.index)))


def add(path: Path, data: bytes) -> bool:
    """Write `data` as hex unless the file exists."""
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(data.hex() + "\n")
    except FileExistsError:
        return False
    return True


def main() -> None:
    for history in HISTORIES:
        commands, snapshot = samples(history)
        wanted = {FOLDER / "commands" / f"{name}.hex": body for name, body in commands.items()}
        wanted[FOLDER / "snapshots" / f"{history}.hex"] = snapshot
        for path, data in wanted.items():
            sys.stdout.write(f"{'added' if add(path, data) else 'kept'} {path.stem}\n")


if __name__ == "__main__":
    main()
