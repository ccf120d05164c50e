"""The control socket: a manager's serves the swarm, any other node's serves what is local."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from swarmd import __version__
from swarmd.errors import FailedPrecondition
from swarmd.manager.autolock import not_locked
from swarmd.manager.manager import Manager
from swarmd.node.config import DEFAULT_CONTROL_SOCKET, Config
from swarmd.node.identity import StateDirectory
from swarmd.node.transport import NodeTransport
from swarmd.transport.connection import Call, Router
from swarmd.transport.credentials import Credentials
from swarmd.transport.listener import ControlSocket
from swarmd.wire import methods
from swarmd.wire.authorise import CertificatesOnly, authorise
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method

log = logging.getLogger(__name__)


class Doors:
    """Binds the control socket that fits the node's role (foundations: Control socket)."""

    def __init__(
        self,
        config: Config,
        directory: StateDirectory,
        credentials: Credentials,
        transport: NodeTransport,
        session: Callable[[], str],
    ) -> None:
        self._config = config
        self._directory = directory
        self._credentials = credentials
        self._transport = transport
        self._session = session

    async def run_as_manager(
        self, manager: Manager, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the manager's router: a busy explicit path is refused, a busy default one gives way."""

        async def serve(path: Path, task_status: trio.TaskStatus[None]) -> None:
            await self._serve(path, manager.router, task_status)

        await serve_at_managers_path(self._config, self._directory, serve, task_status=task_status)

    async def run_as_worker(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve `status` on the state directory's own socket, and say of the rest where it is served."""
        router = Router(self._authorise)
        router.add(methods.STATUS, self._status)
        for method in methods.METHODS.values():
            if method is methods.CLUSTER_UNLOCK:
                router.add(method, not_locked)
            elif method.socket and method is not methods.STATUS:
                router.add(method, _ask_a_manager)
        await self._serve(self._worker_path(), router, task_status)

    def _worker_path(self) -> Path:
        return self._config.control_socket or self._directory.control_socket

    async def _serve(self, path: Path, router: Router, task_status: trio.TaskStatus[None]) -> None:
        socket = ControlSocket(
            path, self._credentials.identity, router, self._transport.hello, group=self._config.control_group
        )
        await socket.run(task_status=task_status)

    async def _status(self, call: Call, request: StatusRequest) -> StatusReply:
        identity = self._credentials.identity
        return StatusReply(
            node_id=identity.node_id, swarm_id=identity.swarm_id, version=__version__, session=self._session()
        )

    def _authorise(self, method: Method[Any, Any], caller: Caller) -> None:
        authorise(method, caller, CertificatesOnly(self._credentials.identity.swarm_id))


async def serve_at_managers_path(
    config: Config,
    directory: StateDirectory,
    serve: Callable[[Path, trio.TaskStatus[None]], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve where a manager's control socket is. `serve` raises `FailedPrecondition` for a path that is in use."""
    asked = config.control_socket
    if asked is not None:
        await serve(asked, task_status)
        return
    try:
        await serve(DEFAULT_CONTROL_SOCKET, task_status)
    except FailedPrecondition as error:  # of the binding: whatever comes later is in a group
        path = directory.control_socket
        log.warning("%s: the control socket is %s instead", error, path)
        await serve(path, task_status)


async def _ask_a_manager(call: Call, request: Any, *stream: Any) -> Any:
    raise FailedPrecondition(
        "this node is not a manager", hint="use the control socket of a manager (-s, SWARM_SOCKET)"
    )
