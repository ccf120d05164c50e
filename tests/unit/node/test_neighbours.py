"""The token that a manager leaves for joiners of its own machine and user, and what is not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarmd.node.neighbours import file_name, find_token, is_own_address, leave_token, places

TOKEN = "SWMTKN-1-a-b"
PORT = 4242


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "swarmd"


def test_what_is_left_is_found_by_port(place: Path) -> None:
    path = leave_token(TOKEN, PORT, [place])
    assert path == place / file_name(PORT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    assert find_token(PORT, [place]) == TOKEN
    assert find_token(PORT + 1, [place]) is None
    leave_token("SWMTKN-1-a-c", PORT, [place])
    assert find_token(PORT, [place]) == "SWMTKN-1-a-c"
    assert [entry.name for entry in place.iterdir()] == [file_name(PORT)]


def test_the_next_place_serves_where_the_first_cannot(tmp_path: Path, place: Path) -> None:
    missing = tmp_path / "no" / "such"
    assert leave_token(TOKEN, PORT, [missing, place]) == place / file_name(PORT)
    assert find_token(PORT, [missing, place]) == TOKEN
    assert leave_token(TOKEN, PORT, [missing]) is None


def test_a_place_that_others_may_enter_is_not_used(place: Path) -> None:
    leave_token(TOKEN, PORT, [place])
    place.chmod(0o755)
    assert find_token(PORT, [place]) is None
    assert leave_token(TOKEN, PORT, [place]) is None


def test_a_place_that_is_a_link_is_not_used(tmp_path: Path, place: Path) -> None:
    leave_token(TOKEN, PORT, [place])
    link = tmp_path / "link"
    link.symlink_to(place)
    assert find_token(PORT, [link]) is None
    assert leave_token(TOKEN, PORT, [link]) is None


def test_a_file_that_others_may_read_or_that_is_a_link_is_not_believed(tmp_path: Path, place: Path) -> None:
    path = leave_token(TOKEN, PORT, [place])
    assert path is not None
    path.chmod(0o644)
    assert find_token(PORT, [place]) is None
    path.unlink()
    (tmp_path / "elsewhere").write_text(TOKEN)
    (tmp_path / "elsewhere").chmod(0o600)
    path.symlink_to(tmp_path / "elsewhere")
    assert find_token(PORT, [place]) is None


def test_a_fifo_in_its_place_hangs_nobody(place: Path) -> None:
    path = leave_token(TOKEN, PORT, [place])
    assert path is not None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert find_token(PORT, [place]) is None


@pytest.mark.needs_root
def test_another_users_place_or_file_is_not_believed(place: Path) -> None:
    path = leave_token(TOKEN, PORT, [place])
    assert path is not None
    os.chown(path, 1, 1)
    assert find_token(PORT, [place]) is None
    os.chown(path, 0, 0)
    os.chown(place, 1, 1)
    assert find_token(PORT, [place]) is None
    assert leave_token(TOKEN, PORT, [place]) is None


def test_where_it_lies_depends_on_the_user() -> None:
    assert places({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == (Path("/run/user/7/swarmd"), Path("/tmp/swarmd-7"))
    assert places({}, 0) == (Path("/run/swarmd"),)
    assert places({"XDG_RUNTIME_DIR": "relative"}, 7) == (Path("/tmp/swarmd-7"),)


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("127.8.8.8", True), ("192.0.2.1", False), ("0.0.0.0", False), ("", False)]
)
def test_whose_address_it_is(host: str, own: bool) -> None:
    assert is_own_address(host) is own
