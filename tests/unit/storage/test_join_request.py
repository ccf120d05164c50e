"""The file of a request that waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.pki import Authority, new_key_and_csr
from swarmd.storage.join_request import JoinRequest, JoinRequestFile

KEY, CSR = new_key_and_csr()
REQUEST = JoinRequest(key=KEY, csr=CSR, root=Authority.create(1_700_000_000.0).certificate)


def test_it_comes_back_byte_for_byte_and_is_private(tmp_path: Path) -> None:
    file = JoinRequestFile(tmp_path / "certificates" / "join-request.pem")
    assert file.load() is None
    file.save(REQUEST)
    assert file.load() == REQUEST
    assert (tmp_path / "certificates" / "join-request.pem").stat().st_mode & 0o777 == 0o600
    file.delete()
    file.delete()
    assert file.load() is None


@pytest.mark.parametrize("contents", [b"", b"garbage", KEY, KEY + CSR, KEY[:-30] + CSR + b"# the root"])
def test_one_that_cannot_be_read_is_none(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "join-request.pem"
    path.write_bytes(contents)
    assert JoinRequestFile(path).load() is None
