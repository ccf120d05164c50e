"""What is refused before anything is made."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition
from swarmd.node.config import Config, Endpoint
from swarmd.node.preflight import refuse_busy_doors


def test_a_busy_address_is_refused_by_the_name_of_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match="in use") as told:
            refuse_busy_doors(Config(listen=Endpoint("127.0.0.1", port)))
    assert told.value.field == "--listen-remote-api"
    refuse_busy_doors(Config(listen=Endpoint("127.0.0.1", port)))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="cannot listen") as told:
        refuse_busy_doors(Config(listen=Endpoint("192.0.2.1", 4242)))
    assert told.value.field == "--listen-remote-api"


def test_a_socket_that_somebody_serves_is_refused_and_a_stale_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(FailedPrecondition, match="another daemon"):
            refuse_busy_doors(Config(control_socket=path))
        assert path.exists()
    refuse_busy_doors(Config(control_socket=path))
    assert not path.exists()


def test_defaults_are_not_looked_at() -> None:
    refuse_busy_doors(Config())
    refuse_busy_doors(Config(listen=Endpoint("127.0.0.1", 0), control_socket=Path("/nowhere/at/all.sock")))
