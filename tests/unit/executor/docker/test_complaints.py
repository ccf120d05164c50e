"""What the words of engines and registries mean. The texts are those of engines 20.10 to 28 and of Docker Hub."""

from __future__ import annotations

import pytest

from swarmd.executor import TaskError, TemporaryTaskError
from swarmd.executor.docker.complaints import engine_error, pull_error, unreachable


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("unauthorized: authentication required", "authentication failed"),
        ("Get https://r/v2/: unauthorized: incorrect username or password", "authentication failed"),
        ("Head https://r/v2/x/manifests/1: no basic auth credentials", "authentication failed"),
        (
            "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested"
            " access to the resource is denied",
            "not found, or authentication failed",
        ),
        ("manifest for redis:99 not found: manifest unknown: manifest unknown", "not found"),
        ("no matching manifest for linux/s390x in the manifest list entries", "not found"),
        ("something new", "something new"),
    ],
)
def test_a_pull_that_no_retry_mends(words: str, said: str) -> None:
    error = pull_error("r/x:1", words)
    assert not isinstance(error, TemporaryTaskError)
    assert said in str(error)
    assert words in str(error)
    assert str(error).startswith("image r/x:1: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("toomanyrequests: You have reached your pull rate limit.", "limits how often"),
        ("dial tcp: lookup registry-1.docker.io on 127.0.0.11:53: no such host", "cannot be reached"),
        ("Get http://10.0.0.1:5000/v2/: dial tcp 10.0.0.1:5000: connect: connection refused", "cannot be reached"),
        ("received unexpected HTTP status: 503 Service Unavailable", "cannot be reached"),
        ("net/http: TLS handshake timeout", "cannot be reached"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk is full"),
    ],
)
def test_a_pull_worth_another_try(words: str, said: str) -> None:
    error = pull_error("x", words)
    assert isinstance(error, TemporaryTaskError)
    assert said in str(error)
    assert words in str(error)


@pytest.mark.parametrize(
    ("status", "words", "is_temporary"),
    [
        (500, "server error", True),
        (500, 'OCI runtime create failed: exec: "x": executable file not found in $PATH', False),
        (400, "invalid reference format", False),
        (404, "No such container: x", False),
        (409, "mkdir: no space left on device", True),
        (500, "unable to find user nobody2: no matching entries in passwd file", False),
    ],
)
def test_an_engine_that_refuses(status: int, words: str, is_temporary: bool) -> None:
    assert isinstance(engine_error(status, words), TemporaryTaskError) is is_temporary


def test_words_of_many_lines_become_one() -> None:
    assert str(unreachable("unix:///x", "a\n  b")) == "the engine at unix:///x does not answer: a b"
    assert isinstance(pull_error("x", ""), TaskError)
