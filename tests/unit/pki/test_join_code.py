"""The code that a waiting node and an operator compare."""

from __future__ import annotations

import re

import pytest

from swarmd.errors import Invalid
from swarmd.pki import Authority, is_join_code, join_code, new_key_and_csr, same_code

ROOT = Authority.create(1_700_000_000.0).certificate
OTHER_ROOT = Authority.create(1_700_000_000.0).certificate
_, CSR = new_key_and_csr()
_, OTHER_CSR = new_key_and_csr()


def test_it_has_groups_that_can_be_read_aloud() -> None:
    assert re.fullmatch(r"([2-9a-hjkmnp-z]{4}-){6}[2-9a-hjkmnp-z]{4}", join_code(ROOT, CSR))


def test_it_is_of_this_root_and_this_key() -> None:
    code = join_code(ROOT, CSR)
    assert code == join_code(ROOT, CSR)
    # Whoever stands in between has another root to show, or another key to ask with.
    assert len({code, join_code(OTHER_ROOT, CSR), join_code(ROOT, OTHER_CSR)}) == 3
    assert join_code(ROOT + b"\n", CSR) != code


def test_capitals_and_separators_do_not_matter_and_everything_else_does() -> None:
    code = join_code(ROOT, CSR)
    assert same_code(code.upper().replace("-", " "), code)
    assert same_code(code.replace("-", ""), code)
    assert not same_code(code[:-1], code)
    assert not same_code("", code)
    last = "2" if code[-1] != "2" else "3"
    assert not same_code(code[:-1] + last, code)


@pytest.mark.parametrize("text", ["", "web", "x" * 25, "0" * 28, "l" * 28, "é" * 28])
def test_what_is_no_code_is_seen(text: str) -> None:
    assert not is_join_code(text)
    assert is_join_code(join_code(ROOT, CSR))


def test_a_request_that_cannot_be_read_has_none() -> None:
    with pytest.raises(Invalid):
        join_code(ROOT, b"garbage")
