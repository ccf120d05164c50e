"""The method table: every call there is, with its types, who may make it, who serves it. Nothing else grants access."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from swarmd.model import Role
from swarmd.wire import (
    audit,
    ca,
    cluster,
    control,
    disk,
    dispatch,
    networks,
    orchestration,
    payloads,
    peer,
    raft_status,
    watch,
)

Req = TypeVar("Req")
Resp = TypeVar("Resp")


class Shape(StrEnum):
    """How many messages travel. UNARY: one each way. SERVER_STREAM: one request, many replies. CLIENT_STREAM: many
    requests, one reply. ONE_WAY: many requests, no reply but an error."""

    UNARY = "unary"
    SERVER_STREAM = "server_stream"
    CLIENT_STREAM = "client_stream"
    ONE_WAY = "one_way"


class Serves(StrEnum):
    """Who serves a call. LEADER_PROXY: a follower passes it on, one hop, with the caller's identity. LEADER_REDIRECT:
    a follower answers `unavailable` naming the leader. ANY: the manager asked."""

    LEADER_PROXY = "leader_proxy"
    LEADER_REDIRECT = "leader_redirect"
    ANY = "any"


class Method(Generic[Req, Resp]):
    """One entry of the table. Compared by identity; found by `name`."""

    def __init__(
        self,
        name: str,
        request: type[Req],
        response: type[Resp],
        *,
        roles: frozenset[Role],
        anonymous: bool = False,
        socket: bool = False,
        serves: Serves = Serves.ANY,
        shape: Shape = Shape.UNARY,
        mutates: bool = False,
    ) -> None:
        self.name = name
        self.request = request
        self.response = response
        self.roles = roles
        self.anonymous = anonymous
        """Whether a peer without a certificate may call. True for exactly three methods."""
        self.socket = socket
        """Whether the control socket serves it."""
        self.serves = serves
        self.shape = shape
        self.mutates = mutates
        """Whether a client sends an idempotency key with it."""

    def __repr__(self) -> str:
        return f"<Method {self.name}>"


MANAGERS: Final = frozenset({Role.MANAGER})
NODES: Final = frozenset({Role.MANAGER, Role.WORKER})
ANYONE: Final = NODES

# -- certificates ------------------------------------------------------------------------------------------------
CA_ROOT = Method("ca.root", ca.RootRequest, ca.RootReply, roles=ANYONE, anonymous=True, serves=Serves.ANY)
CA_ISSUE = Method("ca.issue", ca.IssueRequest, ca.IssueReply, roles=ANYONE, anonymous=True, serves=Serves.LEADER_PROXY)
CA_STATUS = Method(
    "ca.status", ca.StatusRequest, ca.StatusReply, roles=ANYONE, anonymous=True, serves=Serves.LEADER_PROXY
)

CA_UNLOCK_KEY = Method(
    "ca.unlock_key",
    cluster.GetUnlockKey,
    cluster.UnlockKeyReply,
    roles=MANAGERS,
    socket=True,
    serves=Serves.LEADER_PROXY,
)

# -- managers among themselves ---------------------------------------------------------------------------------------
RAFT_MESSAGES = Method("raft.messages", peer.RaftFrame, peer.Nothing, roles=MANAGERS, shape=Shape.ONE_WAY)
RAFT_SNAPSHOT = Method("raft.snapshot", peer.SnapshotChunk, peer.Nothing, roles=MANAGERS, shape=Shape.CLIENT_STREAM)
RAFT_JOIN = Method("raft.join", peer.JoinRequest, peer.JoinReply, roles=MANAGERS, serves=Serves.LEADER_PROXY)
RAFT_LEAVE = Method("raft.leave", peer.LeaveRequest, peer.Nothing, roles=MANAGERS, serves=Serves.LEADER_PROXY)
RAFT_DIGEST = Method("raft.digest", peer.DigestReport, peer.DigestReply, roles=MANAGERS)
RAFT_DISK = Method("raft.disk", disk.DiskReport, peer.Nothing, roles=MANAGERS)
HEALTH = Method("health", peer.HealthRequest, peer.HealthReply, roles=NODES, socket=True)

# -- workers --------------------------------------------------------------------------------------------------------
SESSION = Method(
    "dispatcher.session",
    dispatch.SessionRequest,
    dispatch.SessionMessage,
    roles=NODES,
    serves=Serves.LEADER_REDIRECT,
    shape=Shape.SERVER_STREAM,
)
HEARTBEAT = Method(
    "dispatcher.heartbeat",
    dispatch.HeartbeatRequest,
    dispatch.HeartbeatReply,
    roles=NODES,
    serves=Serves.LEADER_REDIRECT,
)
ASSIGNMENTS = Method(
    "dispatcher.assignments",
    dispatch.AssignmentsRequest,
    dispatch.AssignmentsMessage,
    roles=NODES,
    serves=Serves.LEADER_REDIRECT,
    shape=Shape.SERVER_STREAM,
)
UPDATE_STATUS = Method(
    "dispatcher.update_status",
    dispatch.UpdateStatusRequest,
    dispatch.UpdateStatusReply,
    roles=NODES,
    serves=Serves.LEADER_REDIRECT,
)
GOODBYE = Method(
    "dispatcher.goodbye", dispatch.GoodbyeRequest, peer.Nothing, roles=NODES, serves=Serves.LEADER_REDIRECT
)


# -- control --------------------------------------------------------------------------------------------------------
def _control(name: str, request: type[Req], response: type[Resp], *, mutates: bool) -> Method[Req, Resp]:
    return Method(
        name,
        request,
        response,
        roles=MANAGERS,
        socket=True,
        serves=Serves.LEADER_PROXY if mutates else Serves.ANY,
        mutates=mutates,
    )


NODE_LIST = _control("node.list", control.ListNodes, control.NodeList, mutates=False)
NODE_GET = _control("node.get", control.GetObject, control.NodeView, mutates=False)
NODE_UPDATE = _control("node.update", control.UpdateNode, control.NodeView, mutates=True)
NODE_ACCEPT = _control("node.accept", control.AcceptNode, control.NodeView, mutates=True)
NODE_REJECT = _control("node.reject", control.RejectNode, control.Removed, mutates=True)
NODE_REMOVE = _control("node.remove", control.RemoveNode, control.Removed, mutates=True)
SERVICE_LIST = _control("service.list", control.ListServices, control.ServiceList, mutates=False)
SERVICE_GET = _control("service.get", control.GetObject, control.ServiceView, mutates=False)
SERVICE_CREATE = _control("service.create", control.CreateService, control.ServiceView, mutates=True)
SERVICE_UPDATE = _control("service.update", control.UpdateService, control.ServiceView, mutates=True)
SERVICE_REMOVE = _control("service.remove", control.RemoveObject, control.Removed, mutates=True)
SERVICE_ROLLBACK = _control("service.rollback", orchestration.RollbackService, control.ServiceView, mutates=True)
SERVICE_REBALANCE = _control(
    "service.rebalance", orchestration.RebalanceService, orchestration.RebalanceReply, mutates=True
)
SERVICE_REBALANCE_PLAN = _control(
    "service.rebalance_plan", orchestration.RebalanceService, orchestration.RebalanceReply, mutates=False
)
SERVICE_WHY = _control("service.why", control.GetObject, orchestration.ServiceWhy, mutates=False)
TASK_WHY = _control("task.why", control.GetObject, orchestration.TaskWhy, mutates=False)
TASK_LIST = _control("task.list", control.ListTasks, control.TaskList, mutates=False)
TASK_GET = _control("task.get", control.GetObject, control.TaskView, mutates=False)
SECRET_LIST = _control("secret.list", payloads.ListPayloads, payloads.SecretList, mutates=False)
SECRET_GET = _control("secret.get", control.GetObject, payloads.SecretView, mutates=False)
SECRET_CREATE = _control("secret.create", payloads.CreateSecret, payloads.SecretView, mutates=True)
SECRET_UPDATE = _control("secret.update", payloads.UpdateSecret, payloads.SecretView, mutates=True)
SECRET_REMOVE = _control("secret.remove", control.RemoveObject, control.Removed, mutates=True)
CONFIG_LIST = _control("config.list", payloads.ListPayloads, payloads.ConfigList, mutates=False)
CONFIG_GET = _control("config.get", control.GetObject, payloads.ConfigView, mutates=False)
CONFIG_CREATE = _control("config.create", payloads.CreateConfig, payloads.ConfigView, mutates=True)
CONFIG_UPDATE = _control("config.update", payloads.UpdateConfig, payloads.ConfigView, mutates=True)
CONFIG_REMOVE = _control("config.remove", control.RemoveObject, control.Removed, mutates=True)
NETWORK_LIST = _control("network.list", payloads.ListPayloads, networks.NetworkList, mutates=False)
NETWORK_GET = _control("network.get", control.GetObject, networks.NetworkView, mutates=False)
NETWORK_CREATE = _control("network.create", networks.CreateNetwork, networks.NetworkView, mutates=True)
NETWORK_REMOVE = _control("network.remove", control.RemoveObject, control.Removed, mutates=True)
CLUSTER_GET = _control("cluster.get", cluster.GetCluster, cluster.ClusterView, mutates=False)
CLUSTER_UPDATE = _control("cluster.update", cluster.UpdateCluster, cluster.ClusterView, mutates=True)
CLUSTER_UNLOCK = Method("cluster.unlock", cluster.Unlock, cluster.Unlocked, roles=MANAGERS, socket=True)
NODE_RENEW = _control("node.renew", control.GetObject, control.NodeView, mutates=True)
RAFT_STATUS = _control("raft.status", raft_status.RaftStatusRequest, raft_status.RaftStatusReply, mutates=False)
RAFT_ROTATE_KEY = _control("raft.rotate_key", raft_status.RotateKey, raft_status.KeyRotated, mutates=False)
STATUS = _control("status", control.StatusRequest, control.StatusReply, mutates=False)
AUDIT = Method("audit", audit.AuditRequest, audit.AuditMessage, roles=MANAGERS, socket=True, shape=Shape.SERVER_STREAM)
WATCH = Method("watch", watch.WatchRequest, watch.WatchMessage, roles=MANAGERS, socket=True, shape=Shape.SERVER_STREAM)

METHODS: Final[dict[str, Method[Any, Any]]] = {
    method.name: method for method in list(globals().values()) if isinstance(method, Method)
}
