"""Secrets of a swarm of real processes: they outlive their leader, and are sealed anew when a manager goes.

No disk and no log holds one in clear.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from swarmd.model import Cluster, PayloadKey, SealedPayload, Secret, SecretSpec
from swarmd.pki.payload_keys import payload_of
from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow

PAYLOADS: Final = {
    "horse": b"correct horse battery staple",
    "large": random.Random(5).randbytes(511_999),
    "late": b"what was created without the old leader",
}
CONFIG: Final = b"what a config says is no secret"
ROTATED_S_MAX: Final = 20.0


def spellings(payload: bytes) -> tuple[bytes, ...]:
    """How a part of it would look on a disk, in a log or in JSON."""
    part = payload[:24]
    return (part, part.hex().encode(), base64.b64encode(part))


def create(machine: Machine, noun: str, name: str, payload: bytes, folder: Path) -> None:
    path = folder / f"{name}.payload"
    path.write_bytes(payload)
    machine.ctl(noun, "create", name, str(path), "--label", "made=here")


def key_ids(machine: Machine) -> dict[str, int]:
    """Under which key each secret is sealed."""
    return {s["spec"]["name"]: s["sealed"]["key_id"] for s in machine.json("secret", "ls")}


def dumped(machine: Machine, *what: str) -> list[Any]:
    """What a stopped manager's log tells whoever may read everything."""
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", "raft", "dump", *what, "--unredacted", str(machine.state_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def opened(objects: list[Any]) -> tuple[list[int], dict[str, bytes]]:
    """The ids of the payload keys, and what each secret holds: the swarm's keys open it, whoever reads."""
    stored = [line["object"] | {"table": line["table"]} for line in objects if line["what"] == "object"]
    (raw,) = [o for o in stored if o["table"] == "CLUSTER"]
    keys = tuple(PayloadKey(id=key["id"], key=bytes.fromhex(key["key"])) for key in raw["payload_keys"])
    cluster = Cluster(id=raw["id"], payload_keys=keys)
    payloads = {}
    for raw in (o for o in stored if o["table"] == "SECRET"):
        assert not raw["spec"]["data"]
        sealed = {field: bytes.fromhex(raw["sealed"][field]) for field in ("nonce", "ciphertext")}
        secret = Secret(id=raw["id"], spec=SecretSpec(name=raw["spec"]["name"]))
        secret = replace(secret, sealed=SealedPayload(key_id=raw["sealed"]["key_id"], **sealed))
        payloads[secret.spec.name] = payload_of(cluster, secret)
    return [key.id for key in keys], payloads


@pytest.fixture
def managers(tmp_path: Path) -> Iterator[Swarm]:
    """Three that tell all they can."""
    swarm = Swarm(tmp_path)
    try:
        swarm.bootstrap(3, flags=("--log-level", "debug"))
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def test_a_secret_outlives_its_leader_is_sealed_anew_when_a_manager_goes_and_is_nowhere_in_clear(
    managers: Swarm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    swarm, folder = managers, tmp_path_factory.mktemp("payloads")
    leader = swarm.leader()
    follower, other = (machine for machine in swarm.machines if machine is not leader)
    for name in ("horse", "large"):
        create(follower, "secret", name, PAYLOADS[name], folder)
    create(follower, "config", "site", CONFIG, folder)
    create(follower, "config", "largest", random.Random(6).randbytes(1_023_999), folder)
    assert key_ids(other) == {"horse": 1, "large": 1}

    leader.kill_daemon()
    heir = swarm.leader()
    create(heir, "secret", "late", PAYLOADS["late"], folder)
    heir.ctl("secret", "update", "horse", "--label-add", "moved=yes")
    leader.start()
    leader.wait_ready()
    swarm.wait_voters(3)
    assert key_ids(leader) == dict.fromkeys(PAYLOADS, 1)

    heir.ctl("node", "demote", leader.name, "--wait")
    heir.ctl("node", "rm", "--force", leader.name)
    wait_until(
        lambda: key_ids(heir) == dict.fromkeys(PAYLOADS, 2), ROTATED_S_MAX, "the secrets are not all sealed anew"
    )
    assert heir.json("secret", "inspect", "horse")["spec"]["labels"] == {"made": "here", "moved": "yes"}

    wait_until(
        lambda: any("payload keys 1 are gone" in machine.log.read_text() for machine in swarm.machines),
        ROTATED_S_MAX,
        "the old key is not taken away",
    )
    for machine in swarm.machines:
        machine.stop()
    for machine in (follower, other):
        assert opened(dumped(machine, "--objects")) == ([2], PAYLOADS)
        entries = json.dumps(dumped(machine)).encode()
        assert CONFIG.hex().encode() in entries, "what is written in clear is found like this"
        for payload in PAYLOADS.values():
            assert not [spelling for spelling in spellings(payload) if spelling in entries]
    for machine in swarm.machines:
        assert machine.node_id.encode() in machine.log.read_bytes()
        for path in (machine.log, *(path for path in machine.state_dir.rglob("*") if path.is_file())):
            found = path.read_bytes()
            for name, payload in PAYLOADS.items():
                assert not [spelling for spelling in spellings(payload) if spelling in found], (path, name)
