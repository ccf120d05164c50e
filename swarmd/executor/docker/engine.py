"""One Docker engine, asked from Trio: each call in a thread of a named pool, each error in the contract's terms.

The SDK blocks, so every call takes a thread while it lasts; nothing here waits for a container that way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, Final, Protocol, TypeVar

import docker
import requests
import trio
import urllib3.exceptions
from docker import auth
from docker.errors import APIError, DockerException
from docker.utils import parse_repository_tag

from swarmd.executor.docker.complaints import engine_error, one_line, pull_error, unreachable
from swarmd.executor.docker.plan import Container, read_container

CALLS_MAX: Final = 8
"""Calls under way at once. An engine with two cores starts no more containers a second than this keeps it busy with."""
PULLS_MAX: Final = 4
CALL_S_MAX: Final = 120
"""How long an engine may be silent within one call; creating on a slow disk takes tens of seconds."""
OLDEST_API: Final = "1.41"
"""Engine 20.10. The engine's own version is used once it told."""
PULL_SILENCE_S: Final = 120.0
"""A pull that tells of no progress for as long has stalled."""
CONNECTION_POOL: Final = CALLS_MAX + PULLS_MAX + 4

T = TypeVar("T")

_UNREACHABLE: Final = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)


class NameTaken(Exception):
    """There is a container of that name already."""


class NoSuchImage(Exception):
    """The image is not there (any more)."""


class Stream(Protocol):
    """Something that an engine sends piece by piece."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Blocking: for a thread of its own."""

    def abort(self) -> None:
        """End it, from any thread; the iterator then ends or raises `OSError`."""


class Engine(Protocol):
    """What the executor asks of an engine. `TemporaryTaskError` if it does not answer or fails, `TaskError` for what
    it refuses. A call that changes something is carried to its end when cancelled; one that reads, or begins a stream,
    is abandoned."""

    async def info(self) -> Mapping[str, Any]:
        """What it says of itself and its machine."""

    async def inspect(self, name: str) -> Container | None:
        """The container of this name or id; None if there is none."""

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """Raises `NameTaken`, `NoSuchImage`."""

    async def start(self, id: str) -> None:
        """Success as well if it runs already."""

    async def kill(self, id: str, signal: str) -> None:
        """Send a signal. Success as well if it does not run or does not exist."""

    async def remove(self, id: str) -> None:
        """Kill and remove it with its anonymous volumes. Success as well if it does not exist; `TemporaryTaskError`
        while somebody else is removing it."""

    async def labels(self, filters: Mapping[str, list[str]]) -> tuple[Mapping[str, str], ...]:
        """The labels of all containers, running or not, that match; each with its id under `""`."""

    async def has_image(self, reference: str) -> bool: ...

    async def open_pull(self, reference: str) -> Stream:
        """Begin to pull; the stream's records tell how it goes. Raises `TaskError` with the registry's words."""

    async def open_events(self, filters: Mapping[str, list[str]], since: float) -> Stream:
        """Container events from then on (epoch seconds of the engine's clock)."""

    def close(self) -> None:
        """Close what is open and idle; the next call opens it again."""


class SdkEngine:
    """`Engine` through the Docker SDK. Connects at the first call, and anew after the engine was away."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: docker.APIClient | None = None
        self._calls = trio.CapacityLimiter(CALLS_MAX)
        self._pulls = trio.CapacityLimiter(PULLS_MAX)
        self._watch = trio.CapacityLimiter(2)
        """For the events and `info`, which must not stand in line behind slow creations."""

    async def info(self) -> Mapping[str, Any]:
        """See `Engine`."""
        return await self._run(lambda client: dict(client.info()), reads=True, limiter=self._watch)

    async def inspect(self, name: str) -> Container | None:
        """See `Engine`."""

        def inspect(client: docker.APIClient) -> Container | None:
            try:
                return read_container(client.inspect_container(name))
            except APIError as error:
                if error.status_code == 404:
                    return None
                raise

        return await self._run(inspect, reads=True)

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """See `Engine`."""

        def create(client: docker.APIClient) -> None:
            try:
                client.create_container_from_config(dict(body), name)  # type: ignore[no-untyped-call]
            except APIError as error:
                words = _words(error)
                if error.status_code == 409 and "already in use" in words:
                    raise NameTaken(words) from error
                if error.status_code == 404 and "no such image" in words.lower():
                    raise NoSuchImage(words) from error
                raise

        await self._run(create)

    async def start(self, id: str) -> None:
        """See `Engine`."""
        await self._run(lambda client: client.start(id))

    async def kill(self, id: str, signal: str) -> None:
        """See `Engine`."""

        def kill(client: docker.APIClient) -> None:
            try:
                client.kill(id, signal)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise

        await self._run(kill)

    async def remove(self, id: str) -> None:
        """See `Engine`."""

        def remove(client: docker.APIClient) -> None:
            try:
                client.remove_container(id, v=True, force=True)
            except APIError as error:
                if error.status_code == 409:
                    raise engine_error(500, _words(error)) from error
                if error.status_code != 404:
                    raise

        await self._run(remove)

    async def labels(self, filters: Mapping[str, list[str]]) -> tuple[Mapping[str, str], ...]:
        """See `Engine`."""

        def containers(client: docker.APIClient) -> tuple[Mapping[str, str], ...]:
            found = client.containers(all=True, filters=dict(filters))
            return tuple({**(entry.get("Labels") or {}), "": entry["Id"]} for entry in found)

        return await self._run(containers, reads=True)

    async def has_image(self, reference: str) -> bool:
        """See `Engine`."""

        def look(client: docker.APIClient) -> bool:
            try:
                client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except APIError as error:
                if error.status_code == 404:
                    return False
                raise
            return True

        return await self._run(look, reads=True)

    async def open_pull(self, reference: str) -> Stream:
        """See `Engine`."""

        def pull(client: docker.APIClient) -> requests.Response:
            repository, tag = parse_repository_tag(reference)
            registry, _ = auth.resolve_repository_name(repository)
            header = auth.get_config_header(client, registry)
            response = client.post(
                _url(client, "/images/create"),
                params={"fromImage": repository, "tag": tag or "latest"},
                headers={"X-Registry-Auth": header} if header else {},
                stream=True,
                timeout=(CALL_S_MAX, PULL_SILENCE_S),
            )
            if not response.ok:
                raise pull_error(reference, _message(response))
            return response

        return await self._open(pull, limiter=self._pulls)

    async def open_events(self, filters: Mapping[str, list[str]], since: float) -> Stream:
        """See `Engine`."""

        def events(client: docker.APIClient) -> requests.Response:
            response = client.get(
                _url(client, "/events"),
                params={"since": f"{since:.9f}", "filters": json.dumps(filters)},
                stream=True,
                timeout=(CALL_S_MAX, None),
            )
            if not response.ok:
                raise engine_error(response.status_code, _message(response))
            return response

        return await self._open(events, limiter=self._watch)

    async def _open(
        self, request: Callable[[docker.APIClient], requests.Response], *, limiter: trio.CapacityLimiter
    ) -> Stream:
        """What `request` begins. The engine's first word may be long in coming, so `Cancelled` abandons the thread,
        which closes what it still gets."""
        opened: list[requests.Response] = []
        is_abandoned = False

        def begin(client: docker.APIClient) -> Stream:
            response = request(client)
            opened.append(response)
            if is_abandoned:
                response.close()
            return SdkStream(response)

        try:
            return await self._run(begin, reads=True, limiter=limiter)
        except trio.Cancelled:
            is_abandoned = True  # either the thread sees this, or we see its response
            for response in opened:
                response.close()
            raise

    async def _run(
        self, work: Callable[[docker.APIClient], T], *, reads: bool = False, limiter: trio.CapacityLimiter | None = None
    ) -> T:
        """`work` in a thread, with the SDK's errors turned into the contract's."""

        def run() -> T:
            try:
                return work(self._connected())
            except APIError as error:
                raise engine_error(error.status_code or 500, _words(error)) from error
            except (DockerException, *_UNREACHABLE) as error:
                self.close()  # what answers next may be of another version
                raise unreachable(self.address, _reason(error)) from error

        return await trio.to_thread.run_sync(run, limiter=limiter or self._calls, abandon_on_cancel=reads)

    def close(self) -> None:
        """Close idle connections; the next call makes new ones. From any thread."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> docker.APIClient:
        client = self._client
        if client is None:
            # Not the SDK's own negotiation: when that fails it leaves its connections open.
            with closing(self._new_client(OLDEST_API)) as probe:
                version = probe.version(api_version=False)["ApiVersion"]
            client = self._client = self._new_client(version)
        return client

    def _new_client(self, version: str) -> docker.APIClient:
        return docker.APIClient(
            base_url=self.address, version=version, timeout=CALL_S_MAX, max_pool_size=CONNECTION_POOL
        )


class SdkStream:
    """A `Stream` over an HTTP response of JSON objects, one a line."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        try:
            with self._response:
                for line in self._response.iter_lines():
                    if line:
                        yield json.loads(line)
        except (*_UNREACHABLE, ValueError) as error:
            raise OSError(_reason(error)) from error

    def abort(self) -> None:
        # It has ended by itself, which urllib3 tells as a RuntimeError if its connection is back in the pool.
        with suppress(OSError, ValueError, RuntimeError):
            self._response.raw.shutdown()


def _url(client: docker.APIClient, path: str) -> str:
    return f"{client.base_url}/v{client.api_version}{path}"


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text or response.reason


def _words(error: APIError) -> str:
    return str(error.explanation or error)


def _reason(error: Exception) -> str:
    """The innermost cause: the SDK wraps `[Errno 2] No such file` three times."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.strerror:
        return one_line(cause.strerror)
    return one_line(str(cause) or type(cause).__name__)
