"""The cluster: the list, the summary with its join tokens, and the daemon's own status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from swarmctl.render.layout import summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import DAY, duration, instant, one_line
from swarmd.model import ClusterSpec
from swarmd.wire.cluster import ClusterView, RotationProgress
from swarmd.wire.control import StatusReply

WAITING_SHOWN_MAX: Final = 3


def cluster_document(view: ClusterView) -> Any:
    """The cluster as plain data, and what is known of its root; keys are not even empty fields."""
    document = plain(view.cluster)
    document["root_ca"].pop("key", None)
    (document["root_ca"]["rotation"] or {}).pop("key", None)
    for hidden in ("signing_ca_certificate", "signing_ca_key"):
        document["spec"]["ca"].pop(hidden, None)
    document["unlock_key"].pop("key", None)
    document.pop("payload_keys", None)
    return document | {"root": plain(view.root), "rotation": plain(view.rotation)}


def cluster_list(views: Sequence[ClusterView]) -> str:
    """`cluster ls`."""
    return table(("ID", "Name"), [(view.cluster.id, view.cluster.spec.name) for view in views])


def rotation_text(rotation: RotationProgress) -> str:
    """`3 of 5 nodes`, and what the first of the others wait for."""
    text = f"{rotation.done} of {rotation.total} nodes"
    waits = [f"{node.hostname or node.node_id}: {node.reason}" for node in rotation.waiting[:WAITING_SHOWN_MAX]]
    more = rotation.total - rotation.done - len(waits)
    if waits and more:
        waits.append(f"and {more} more")
    return f"{text} ({'; '.join(waits)})" if waits else text


def cluster_summary(view: ClusterView, now: float) -> str:
    """`cluster inspect`: scripts cut the tokens out of these lines."""
    cluster = view.cluster
    spec, tokens = cluster.spec, cluster.root_ca.join_tokens
    return summary([("ID", cluster.id), ("Name", spec.name)]) + "\n".join(
        (
            "Orchestration settings:",
            f"  Task history entries: {spec.orchestration.task_history_retention_limit}",
            "Dispatcher settings:",
            f"  Dispatcher heartbeat period: {duration(spec.dispatcher.heartbeat_period_s)}",
            *_default_lines(spec),
            "Certificate Authority settings:",
            f"  Certificate Validity Duration: {duration(spec.ca.node_cert_expiry_s)}",
            "  Join Tokens:",
            f"    Worker: {tokens.worker}",
            f"    Manager: {tokens.manager}",
            *_root_lines(view, now),
            "",
        )
    )


def _default_lines(spec: ClusterSpec) -> list[str]:
    """What new tasks get if their service does not say."""
    driver = spec.task_defaults.log_driver
    if driver is None:
        return []
    options = "".join(f" {key}={value}" for key, value in sorted(driver.options.items()))
    return ["Task defaults:", f"  Log driver: {driver.name}{options}"]


def _root_lines(view: ClusterView, now: float) -> list[str]:
    """The root, who signs, and how far a rotation is; nothing where an older daemon does not tell."""
    lines = []
    if view.root.fingerprint:
        days = int((view.root.expires_at - now) // DAY)
        lines += [
            "  Root:",
            f"    Fingerprint: {view.root.fingerprint}",
            f"    Expires: {instant(view.root.expires_at)} ({days} days left)",
            f"    Key: {'kept by the swarm' if view.root.has_key else 'an external CA has it'}",
        ]
    externals = view.cluster.spec.ca.external_cas
    if externals:
        lines += [
            "  External CAs:",
            *(f"    {one_line(external.protocol)}: {one_line(external.url)}" for external in externals),
        ]
    if view.rotation is not None:
        lines += [
            "  Root rotation:",
            f"    New root: {view.rotation.fingerprint}",
            f"    Progress: {one_line(rotation_text(view.rotation))}",
        ]
    return lines


def status_document(status: StatusReply) -> Any:
    """The daemon's status as plain data; the digest in hexadecimal, as logs show it."""
    return plain(status) | {"digest": status.digest.hex()}


def status_summary(status: StatusReply) -> str:
    """`status`."""
    return summary(
        [
            ("Node", f"{status.node_id}  {_part(status)}"),
            ("Locked", "yes" if status.locked else ""),
            ("Swarm", status.swarm_id),
            ("Leader", "" if status.locked else status.leader_node_id or "none known"),
            ("Raft", _raft(status) if status.is_manager and not status.locked else ""),
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
