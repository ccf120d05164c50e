"""A daemon that answers from plain lists, and a command line run against it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmd.errors import FailedPrecondition, NotFound, SwarmError
from swarmd.model import (
    Cluster,
    ContainerSpec,
    JoinTokens,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Platform,
    Replicated,
    ReplicatedJob,
    Resources,
    Role,
    RootCA,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.wire import codec
from swarmd.wire.cluster import ClusterView
from swarmd.wire.control import (
    CreateService,
    ManagerStatus,
    NodeList,
    NodeView,
    Reachability,
    ServiceList,
    ServiceView,
    StatusReply,
    TaskList,
    TaskView,
    UpdateService,
)
from swarmd.wire.frames import Headers
from swarmd.wire.methods import Method
from swarmd.wire.orchestration import RollbackService

NOW = 1_800_000_000.0


class Result:
    """What a command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


class FakeDaemon:
    """`handlers` overrides or adds answers by method name; `calls` is what was asked; `errors` come first."""

    def __init__(self) -> None:
        self.nodes: list[NodeView] = []
        self.services: list[ServiceView] = []
        self.tasks: list[Task] = []
        self.cluster = Cluster(
            id="c" * 25, root_ca=RootCA(join_tokens=JoinTokens(worker="SWMTKN-w", manager="SWMTKN-m"))
        )
        self.status = StatusReply(
            node_id="n" * 25, swarm_id="c" * 25, version="0.1.0", is_manager=True, applied_index=41, session="connected"
        )
        self.handlers: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, Any, Headers]] = []
        self.errors: dict[str, list[SwarmError]] = {}
        self.streams: list[list[Any]] = []
        """What each stream in turn says: messages, and errors that end it. After the last, the user interrupts."""
        self.connections = 0
        self.clock = 0.0
        self.pauses: list[float] = []
        """How long each sleep was."""
        self.is_terminal = False
        self.typed = ""
        """The line that somebody at the terminal types."""
        self.prompts: list[str] = []
        """What was asked without echo."""

    def run(self, *arguments: str, variables: dict[str, str] | None = None) -> Result:
        """Run `swarmctl` with these arguments."""
        out, err = io.StringIO(), Terminal(is_terminal=self.is_terminal)
        environment = Environment(
            connect=self._connect,
            variables=variables or {},
            out=out,
            err=err,
            is_terminal=lambda: self.is_terminal,
            read_line=lambda: self.typed,
            read_secret=self._read_secret,
            now=lambda: NOW,
            monotonic=lambda: self.clock,
            sleep=self._sleep,
            random_bytes=lambda count: bytes(range(count)),
        )
        code = run(arguments, environment)
        return Result(code, out.getvalue(), err.getvalue())

    def asked(self, method: str) -> list[Any]:
        """The requests made of one method."""
        return [request for name, request, _ in self.calls if name == method]

    def _read_secret(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.typed

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        self.pauses.append(seconds)

    def _connect(self, path: Path) -> FakeDaemon:
        self.connections += 1
        self.path = path
        return self

    def close(self) -> None:
        """Part of `Link`."""

    def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float, headers: Headers) -> Any:
        assert timeout_s > 0
        request = codec.decode(codec.encode(request), method.request)
        self.calls.append((method.name, request, headers))
        if self.errors.get(method.name):
            raise self.errors[method.name].pop(0)
        handler = self.handlers.get(method.name) or getattr(self, "_" + method.name.replace(".", "_"))
        return codec.decode(codec.encode(handler(request)), method.response)

    def stream(self, method: Method[Any, Any], request: Any, *, silence_s: float, headers: Headers) -> Iterator[Any]:
        assert silence_s > 0
        request = codec.decode(codec.encode(request), method.request)
        self.calls.append((method.name, request, headers))
        for item in self.streams.pop(0) if self.streams else [KeyboardInterrupt()]:
            if isinstance(item, BaseException):
                raise item
            yield codec.decode(codec.encode(item), method.response)

    # -- answers ---------------------------------------------------------------------------------------------------
    def _status(self, request: Any) -> StatusReply:
        return self.status

    def _cluster_get(self, request: Any) -> ClusterView:
        return ClusterView(cluster=self.cluster)

    def _node_list(self, request: Any) -> NodeList:
        return NodeList(
            nodes=tuple(
                view
                for view in self.nodes
                if _fits(view.node.id, request.id_prefixes)
                and _named(request.names, view.node.spec.name, view.node.description.hostname)
            )
        )

    def _node_get(self, request: Any) -> NodeView:
        return _one([view for view in self.nodes if view.node.id == request.id])

    def _service_list(self, request: Any) -> ServiceList:
        return ServiceList(
            services=tuple(
                view
                for view in self.services
                if _fits(view.service.id, request.id_prefixes) and _named(request.names, view.service.spec.name)
            )
        )

    def _service_get(self, request: Any) -> ServiceView:
        return _one([view for view in self.services if view.service.id == request.id])

    def _service_create(self, request: CreateService) -> ServiceView:
        view = service_view("n", request.spec.name)
        view = ServiceView(service=msgspec.structs.replace(view.service, spec=request.spec), desired=goal(request.spec))
        self.services.append(view)
        return view

    def _service_update(self, request: UpdateService) -> ServiceView:
        return self.update(request)

    def update(self, request: UpdateService) -> ServiceView:
        """Take a spec; tasks of another one are outdated."""
        old = _one([view for view in self.services if view.service.id == request.id])
        version = old.service.spec_version + (request.spec != old.service.spec)
        service = msgspec.structs.replace(
            old.service, spec=request.spec, spec_version=version, previous_spec=old.service.spec
        )
        outdated = sum(task.service_id == request.id and task.spec != request.spec.task for task in self.tasks)
        view = ServiceView(service=service, running=old.running, desired=goal(request.spec), outdated=outdated)
        self.services[self.services.index(old)] = view
        return view

    def _service_rollback(self, request: RollbackService) -> ServiceView:
        (old,) = [view.service for view in self.services if view.service.id == request.id]
        if old.previous_spec is None:
            raise FailedPrecondition(f"service {old.spec.name} does not have a previous spec")
        return self.update(UpdateService(id=request.id, spec=old.previous_spec))

    def _task_list(self, request: Any) -> TaskList:
        return TaskList(
            tasks=tuple(
                task
                for task in self.tasks
                if _fits(task.id, request.id_prefixes)
                and (not request.service_ids or task.service_id in request.service_ids)
                and (not request.node_ids or task.node_id in request.node_ids)
            )
        )

    def _task_get(self, request: Any) -> TaskView:
        return TaskView(task=_one([task for task in self.tasks if task.id == request.id]))


class Terminal(io.StringIO):
    """A stderr that is, or is not, a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def id_of(letter: str) -> str:
    """A full id that begins with `letter`."""
    return letter.ljust(25, "0")


def node_view(letter: str, hostname: str, *, member: int = 0, leader: bool = False, **spec: Any) -> NodeView:
    role = Role.MANAGER if member else Role.WORKER
    node = Node(
        id=id_of(letter),
        meta=Meta(version=7, created_at=NOW - 100),
        role=role,
        spec=NodeSpec(**({"desired_role": role} | spec)),
        status=NodeStatus(state=NodeState.READY, addr="10.0.0.1"),
        description=NodeDescription(
            hostname=hostname,
            platform=Platform(architecture="x86_64", os="linux"),
            resources=Resources(nano_cpus=2_000_000_000, memory_bytes=4 << 30),
            engine_version="process",
        ),
    )
    manager = None
    if member:
        manager = ManagerStatus(
            member_id=member, addresses=("10.0.0.1:4242",), is_leader=leader, reachability=Reachability.REACHABLE
        )
    return NodeView(node=node, manager=manager)


def service_view(letter: str, name: str, *, replicas: int = 1, running: int = 0, **container: Any) -> ServiceView:
    spec = ServiceSpec(
        name=name,
        task=TaskSpec(container=ContainerSpec(**({"image": "redis"} | container))),
        mode=Replicated(replicas=replicas),
    )
    service = Service(id=id_of(letter), meta=Meta(version=9, updated_at=NOW - 60), spec=spec, spec_version=3)
    return ServiceView(service=service, running=running, desired=replicas)


def task_for(
    view: ServiceView, letter: str, slot: int, *, node: NodeView | None = None, ago: float = 120.0, **fields: Any
) -> Task:
    """A running task of a service."""
    service = view.service
    task = Task(
        id=id_of(letter),
        meta=Meta(created_at=NOW - ago),
        service_id=service.id,
        service_name=service.spec.name,
        slot=slot,
        node_id=node.node.id if node is not None else "",
        spec=service.spec.task,
        status=TaskStatus(state=TaskState.RUNNING, at=NOW - ago),
    )
    return msgspec.structs.replace(task, **fields)


def goal(spec: ServiceSpec) -> int:
    """How many tasks a spec asks for; of what depends on nodes, none."""
    if isinstance(spec.mode, ReplicatedJob):
        return spec.mode.total_completions
    return spec.mode.replicas if isinstance(spec.mode, Replicated) else 0


def _fits(id: str, prefixes: Sequence[str]) -> bool:
    return not prefixes or id.startswith(tuple(prefixes))


def _named(names: Sequence[str], *candidates: str) -> bool:
    return not names or any(name.lower() == candidate.lower() for name in names for candidate in candidates)


def _one(found: list[Any]) -> Any:
    if not found:
        raise NotFound("not found")
    return found[0]
