"""`status`."""

from __future__ import annotations

from swarmctl.invocation import Invocation
from swarmctl.render.cluster import status_document, status_summary
from swarmctl.show import Kind, show_one


def show_status(call: Invocation) -> None:
    """Needs a daemon, and no leader."""
    with call.client() as client:
        status = client.status()
    kind = Kind(lambda reply: reply.node_id, lambda reply: reply.node_id, status_document)
    show_one(call, kind, status, lambda: status_summary(status))
