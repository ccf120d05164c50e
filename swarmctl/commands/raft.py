"""`raft status`, `raft rotate-key`."""

from __future__ import annotations

from swarmctl.invocation import Invocation
from swarmctl.render.plain import plain
from swarmctl.render.raft import raft_document, raft_summary, rotation_in_words
from swarmctl.show import Kind, show_one
from swarmctl.verbs import group, verb
from swarmd.wire.methods import RAFT_ROTATE_KEY, RAFT_STATUS
from swarmd.wire.raft_status import RaftStatusRequest, RotateKey

app = group("raft", "How the managers agree.")


@verb(app, "status")
def status(call: Invocation) -> None:
    """Show term, leader, log and members as this manager sees them. Needs no leader."""
    with call.client(is_own_view=True) as client:
        found = client.read(RAFT_STATUS, RaftStatusRequest())
    kind = Kind(lambda reply: reply.node_id, lambda reply: reply.node_id, raft_document)
    show_one(call, kind, found, lambda: raft_summary(found))


@verb(app, "rotate-key")
def rotate_key(call: Invocation) -> None:
    """Seal this manager's log and snapshots with a new data key, anew, and delete the old one. Needs no leader."""
    with call.client(is_own_view=True) as client:
        found = client.read(RAFT_ROTATE_KEY, RotateKey())
    kind = Kind(lambda reply: str(reply.key), lambda reply: str(reply.key), plain)
    show_one(call, kind, found, lambda: rotation_in_words(found))
