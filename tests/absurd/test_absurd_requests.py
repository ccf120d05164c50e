"""Whatever is asked of a manager: it answers with a typed error that is no defect, what it refuses changes nothing, and
it goes on with a state that can be kept."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from swarmd.errors import ErrorKind, OutcomeUnknown
from swarmd.state.command import Verdict
from swarmd.wire.frames import Headers
from swarmd.wire.methods import CLUSTER_GET, METHODS, NODE_LIST, RAFT_STATUS, SERVICE_LIST, STATUS, TASK_LIST
from tests.absurd.requests import bodies, is_read, requests
from tests.absurd.swarm import Prepared, callers_of, running

pytestmark = pytest.mark.slow

LOOKS = (NODE_LIST, SERVICE_LIST, TASK_LIST, CLUSTER_GET, RAFT_STATUS, STATUS)
IS_LONG = bool(os.environ.get("SWARM_LONG"))
Asked = tuple[tuple[str, Any], bool, bytes, bool]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("prepared"))


def asked() -> st.SearchStrategy[list[Asked]]:
    """Requests, each with: whether by somebody who may not, its idempotency key, whether a stale answer will do."""
    keys = st.sampled_from((b"", b"", b"k", b"x" * 65))
    return st.lists(
        st.tuples(requests(), st.integers(0, 9).map(lambda n: n == 0), keys, st.booleans()), min_size=8, max_size=40
    )


async def ask_all(prepared: Prepared, path: Path, calls: list[Asked]) -> None:
    with trio.fail_after(120):
        async with running(prepared.copy(path)) as target:
            for (name, body), by_another, key, stale in calls:
                method = METHODS[name]
                who = callers_of(method)[by_another]
                before = len(target.applied)
                error = await target.send(who, method, body, Headers(key=key, stale=stale))
                what = f"{name} by {who}: {str(body)[:2000]}: {error}"
                if error is not None:
                    assert error.kind is not ErrorKind.INTERNAL, what
                    assert error.kind is not ErrorKind.DEADLINE_EXCEEDED or isinstance(error, OutcomeUnknown), what
                    took_effect = [fate for by, fate in target.applied[before:] if by == target.actor(who)]
                    assert Verdict.APPLIED not in took_effect or isinstance(error, OutcomeUnknown), what
            for method in LOOKS:
                error = await target.send("operator", method, {}, Headers())
                assert error is None, f"{method.name} afterwards: {error}; {calls}"
            target.check()


@settings(
    max_examples=300 if IS_LONG else 25,
    phases=(Phase.generate,),  # each example starts a manager: shrinking would take hours
    derandomize=not IS_LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(asked())
def test_whatever_is_asked_is_answered_or_refused(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, calls: list[Asked]
) -> None:
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        trio.run(ask_all, prepared, tmp_path_factory.getbasetemp() / "absurd", calls)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("name", sorted(METHODS))
def test_requests_that_have_the_right_shape_are_made_for_every_method(name: str) -> None:
    """Else the test above would ask nothing of a handler."""
    made: list[bool] = []

    @settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies(METHODS[name]))
    def make(body: Any) -> None:
        made.append(is_read(METHODS[name], body))

    make()
    assert sum(made) >= 3
