"""The cluster: the list, the summary with its join tokens, and the daemon's own status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarmctl.render.layout import summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import duration
from swarmd.model import Cluster
from swarmd.wire.control import StatusReply


def cluster_document(cluster: Cluster) -> Any:
    """The cluster as plain data; the CA's key is not even an empty field."""
    document = plain(cluster)
    document["root_ca"].pop("key", None)
    return document


def cluster_list(clusters: Sequence[Cluster]) -> str:
    """`cluster ls`."""
    return table(("ID", "Name"), [(cluster.id, cluster.spec.name) for cluster in clusters])


def cluster_summary(cluster: Cluster) -> str:
    """`cluster inspect`: scripts cut the tokens out of these lines."""
    spec, tokens = cluster.spec, cluster.root_ca.join_tokens
    return summary([("ID", cluster.id), ("Name", spec.name)]) + "\n".join(
        (
            "Orchestration settings:",
            f"  Task history entries: {spec.orchestration.task_history_retention_limit}",
            "Dispatcher settings:",
            f"  Dispatcher heartbeat period: {duration(spec.dispatcher.heartbeat_period_s)}",
            "Certificate Authority settings:",
            f"  Certificate Validity Duration: {duration(spec.ca.node_cert_expiry_s)}",
            "  Join Tokens:",
            f"    Worker: {tokens.worker}",
            f"    Manager: {tokens.manager}",
            "",
        )
    )


def status_document(status: StatusReply) -> Any:
    """The daemon's status as plain data; the digest in hexadecimal, as logs show it."""
    return plain(status) | {"digest": status.digest.hex()}


def status_summary(status: StatusReply) -> str:
    """`status`."""
    return summary(
        [
            ("Node", f"{status.node_id}  {_part(status)}"),
            ("Swarm", status.swarm_id),
            ("Leader", status.leader_node_id or "none known"),
            ("Raft", _raft(status) if status.is_manager else ""),
            ("ALARM", status.alarm),
            ("Session", status.session),
            ("Addresses", ", ".join(status.remote_addresses)),
            ("Version", status.version),
        ]
    )


def _part(status: StatusReply) -> str:
    if not status.is_manager:
        return "worker"
    return "manager, leader" if status.is_leader else "manager"


def _raft(status: StatusReply) -> str:
    digest = f", digest {status.digest.hex()[:12]}" if status.digest else ""
    return f"term {status.term}, commit {status.commit_index}, applied {status.applied_index}{digest}"
