"""What every call pays to be judged: `authorise` with the standing of its caller, of a swarm of 1,000 nodes."""

from __future__ import annotations

import random
import statistics
import time
from typing import Final

from swarmd.manager.standing import StateStandings
from swarmd.model import Cluster, EarlierCertificate, Node, NodeCertificate, Role
from swarmd.raft import Entry, EntryKind
from swarmd.state.command import CommandId, encode_command
from swarmd.state.features import SECURITY
from swarmd.state.store import State
from swarmd.wire.authorise import authorise
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import HEARTBEAT, NODE_UPDATE

NODES: Final = 1_000
CALLS: Final = 20_000
ROUNDS: Final = 7
LATER: Final = 1e10


class _Leader:
    is_leading = True
    leader = 1

    def __init__(self, state: State) -> None:
        self.state = state


def _node(number: int) -> Node:
    """With the certificate it has and the one before."""
    earlier = EarlierCertificate(fingerprint=f"{number:063x}e", expires_at=LATER, is_revoked=True)
    role = Role.MANAGER if number < 2 else Role.WORKER
    certificate = NodeCertificate(role=role, fingerprint=f"{number:064x}", expires_at=LATER, earlier=(earlier,))
    return Node(id=f"node{number}", role=role, certificate=certificate)


def _state() -> State:
    state = State()
    tx = state.begin(0.0, random.Random(1))
    tx.create(Cluster(id="swarm", feature_level=(SECURITY,)))
    for number in range(NODES):
        tx.create(_node(number))
    body = encode_command(tx.command(CommandId(1, b"boot", 0), actor="bench"))
    entry = Entry(1, 1, EntryKind.DATA, body)
    state.apply(entry.index, entry.term, entry.body)
    return state


def _identity(number: int) -> Identity:
    return Identity(
        node_id=f"node{number}",
        role=Role.MANAGER if number < 2 else Role.WORKER,
        swarm_id="swarm",
        fingerprint=f"{number:064x}",
    )


def authorisation_us() -> dict[str, float]:
    """Microseconds of CPU a call: a heartbeat of each node in turn, and one that another manager passes on."""
    log = _Leader(_state())
    standings = StateStandings("swarm", lambda: log)
    direct = [Caller(identity=_identity(number)) for number in range(NODES)]
    forwarded = Caller(identity=_identity(1), forwarder=_identity(0))

    def per_call(work: list[tuple[object, Caller]]) -> float:
        best = []
        for _ in range(ROUNDS):
            began = time.process_time()
            for method, caller in work:
                authorise(method, caller, standings)  # type: ignore[arg-type]
            best.append((time.process_time() - began) / len(work) * 1e6)
        return statistics.median(best)

    return {
        "direct": per_call([(HEARTBEAT, direct[i % NODES]) for i in range(CALLS)]),
        "forwarded": per_call([(NODE_UPDATE, forwarded)] * CALLS),
    }
