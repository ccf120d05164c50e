"""The Docker executor's place. It alone will import docker; until it is built, asking for it is a typed error."""

from __future__ import annotations

from typing import NoReturn

from swarmd.errors import Unimplemented


def make_docker_executor(*, hostname: str = "") -> NoReturn:
    """Raises `Unimplemented`: the process executor is never a silent replacement."""
    raise Unimplemented("the docker executor is not built yet", hint="start swarmd with --executor process")


__all__ = ["make_docker_executor"]
