"""The house rules that no linter knows, and that the documents tell the truth about the commands."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from swarmctl.app import PLANNED, root
from swarmd.__main__ import app as swarmd_app
from swarmd.errors import SwarmError
from swarmd.wire.methods import METHODS
from tests.e2e import test_readme, test_readme_containers
from tests.e2e.readme import README, REPOSITORY, commands, steps

LINES_MAX: Final = 500
SOURCES: Final = sorted(path for top in ("swarmd", "swarmctl") for path in (REPOSITORY / top).rglob("*.py"))
DOCUMENTS: Final = ("README.md", "CONTRIBUTING.md")

TESTED_THROUGH: Final[dict[str, tuple[str, ...]]] = {
    "e2e/test_bad_inputs.py": ("__main__",),
    "e2e/test_operations.py": ("node.*",),
    "e2e/test_crashes.py": ("manager.*", "wire.audit"),
    "unit/agent/test_agent.py": (
        *("agent.connector", "agent.ledger", "agent.reporter", "agent.session", "agent.task_runner", "agent.worker"),
    ),
    "contract/executor/test_contract.py": (
        *("executor.contract", "executor.process.controller", "executor.process.executor"),
        "executor.docker.engine",
    ),
    "unit/executor/docker/test_executor.py": ("executor.docker.watch",),
    "unit/manager/control_api/test_nodes.py": ("manager.control_api.access", "manager.control_api.node_checks"),
    "unit/manager/control_api/test_tasks_cluster_status.py": (
        *("manager.control_api.api", "manager.control_api.cluster", "manager.control_api.redact"),
        *("manager.control_api.status", "manager.control_api.tasks"),
    ),
    "unit/manager/control_api/test_admission.py": ("manager.control_api.node_views",),
    "unit/manager/control_api/test_secrets.py": ("manager.control_api.payloads",),
    "unit/manager/dispatcher/test_sessions.py": (
        *("manager.dispatcher.dispatcher", "manager.dispatcher.local_link", "manager.dispatcher.node_writer"),
        *("manager.dispatcher.receipt", "manager.dispatcher.session"),
    ),
    "unit/manager/loops/test_task_loops.py": ("manager.loops.allocator", "manager.loops.reaper"),
    "unit/manager/loops/test_node_loops.py": ("manager.loops.enforcer", "manager.loops.lost_nodes"),
    "unit/state/test_features_orchestration.py": ("model.endpoints", "model.modes", "model.placement"),
    "unit/model/test_validate.py": (
        *("model.checks", "model.ids", "model.objects", "model.quote", "model.specs", "model.states"),
    ),
    "unit/state/test_finding.py": (
        *("model.common", "model.extensions", "model.networks", "model.payloads", "model.references", "model.volumes"),
        *("state.indexes", "state.keys", "state.kinds"),
    ),
    "unit/orchestrator/test_replicas.py": (
        *("orchestrator.facts", "orchestrator.reconcile", "orchestrator.replicated", "orchestrator.slot_pass"),
    ),
    "unit/pki/test_authority.py": ("pki.pem",),
    "unit/raft/test_replication.py": ("raft.core", "raft.gate", "raft.outbox", "raft.standing", "raft.types"),
    "unit/scheduler/test_scheduler.py": (
        *("scheduler.masks", "scheduler.room", "scheduler.spread", "scheduler.waiting", "scheduler.node_info"),
        *("scheduler.filters", "scheduler.traits", "scheduler.attributes", "scheduler.pack", "scheduler.tree"),
        *("scheduler.explain", "scheduler.details", "scheduler.remedy"),
    ),
    "unit/node/test_inspection.py": ("storage.log_copy",),
    "unit/state/test_conflicts.py": ("state.judge",),
    "unit/state/test_store.py": ("state.reports", "state.specs", "state.tables"),
    "unit/state/test_transaction.py": ("state.overlay",),
    "unit/storage/test_log_store.py": ("storage.database",),
    "unit/transport/test_connection.py": ("transport.link", "transport.router", "transport.stream"),
    "unit/transport/test_listener.py": ("transport.serving",),
}
"""Modules without a test file of their name, which no test imports either, under the tests that go through them: the
insides of a package that is tested as a whole, and the outermost shells, which only real daemons exercise. `*` is any
one name."""


def name_of(path: Path) -> str:
    """`swarmd/raft/core.py` is `swarmd.raft.core`."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


# -- files ------------------------------------------------------------------------------------------------------------
def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): path.read_text().count("\n") for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}


def test_every_package_and_module_says_what_it_is() -> None:
    silent = [name_of(path) for path in SOURCES if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()]
    assert silent == []


def test_every_directory_of_sources_is_a_package() -> None:
    assert [str(path) for path in {path.parent for path in SOURCES} if not (path / "__init__.py").is_file()] == []


def has_counterpart(name: str) -> bool:
    """Whether `swarmd.raft.log` has its `tests/unit/raft/test_log.py`."""
    _, *packages, module = name.split(".")
    return REPOSITORY.joinpath("tests", "unit", *packages, f"test_{module}.py").is_file()


def imported_by_tests() -> set[str]:
    """Every module that some test outside `e2e` imports by its own name."""
    found: set[str] = set()
    for kind in ("unit", "contract", "scenarios", "simulation"):
        for path in (REPOSITORY / "tests" / kind).rglob("*.py"):
            if path == Path(__file__):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
                    found |= {f"{node.module}.{alias.name}" for alias in node.names}
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    return found


def test_every_module_is_tested() -> None:
    names = [name for names in TESTED_THROUGH.values() for name in names]
    indirect = re.compile("|".join(re.escape(f"swarmd.{name}").replace(r"\*", "[^.]+") for name in names))
    modules = {name_of(path) for path in SOURCES if path.name != "__init__.py" and "swarmd" in path.parts}
    untested = {
        name for name in modules - imported_by_tests() if not has_counterpart(name) and not indirect.fullmatch(name)
    }
    assert untested == set(), (
        "give it a test_MODULE.py, import it in another, or say in TESTED_THROUGH what goes through it"
    )


@pytest.mark.parametrize("test_file", TESTED_THROUGH)
def test_what_modules_are_tested_through_exists(test_file: str) -> None:
    assert (REPOSITORY / "tests" / test_file).is_file()


# -- doors ------------------------------------------------------------------------------------------------------------
def test_exactly_three_methods_are_open_to_strangers() -> None:
    assert {name for name, method in METHODS.items() if method.anonymous} == {"ca.root", "ca.issue", "ca.status"}


# -- documents --------------------------------------------------------------------------------------------------------
def test_the_commands_of_the_readme_are_the_ones_that_a_test_runs() -> None:
    """The two walks take their steps from the README, all of them, and change nothing."""
    walked = test_readme_containers.STEPS + test_readme.STEPS
    assert steps(README.read_text()) == walked
    assert len(walked) == README.read_text().count("\n```sh\n") > 10


def mentioned(program: str) -> list[Any]:
    """Each call of `program` in the documents."""
    calls = {
        f"{document}: {program} {' '.join(words)}": words
        for document in DOCUMENTS
        for words in commands((REPOSITORY / document).read_text(), program)
        if words
    }
    return [pytest.param(words, id=id) for id, words in calls.items()]


def unknown_options(command: Any, words: list[str]) -> list[str]:
    """The options among `words` that `command` does not have."""
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("words", mentioned("swarmctl"))
def test_swarmctl_has_what_the_documents_mention(words: list[str]) -> None:
    command, context = root(), None
    while words and hasattr(command, "list_commands"):
        if words[0] in ("-s", "-o"):
            words = words[2:]
            continue
        context = context or command.make_context("swarmctl", ["status"], resilient_parsing=True)
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]}"
        command, words = found, words[1:]
    assert unknown_options(command, words) == []


@pytest.mark.parametrize("words", mentioned("swarmd"))
def test_swarmd_has_what_the_documents_mention(words: list[str]) -> None:
    assert unknown_options(get_command(swarmd_app), words) == []


@pytest.mark.parametrize("words", mentioned("make"))
def test_the_makefile_has_what_the_documents_mention(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_the_documents_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (REPOSITORY / document).read_text())
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_readme_lists_every_design() -> None:
    designs = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("swarm*/**/DESIGN.md")}
    assert {design for design in designs if design not in README.read_text()} == set()


@pytest.mark.parametrize("noun", sorted(PLANNED))
def test_what_is_planned_is_no_command_yet(noun: str) -> None:
    command = root()
    with pytest.raises(SwarmError, match="not built yet"):
        command.get_command(command.make_context("swarmctl", ["status"], resilient_parsing=True), noun)


def test_the_tests_that_stand_for_swarmkits_exist() -> None:
    page = (REPOSITORY / "tests/scenarios/SWARMKIT.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 80
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (REPOSITORY / path).exists() or (name and f"def {name}(" not in (REPOSITORY / path).read_text())
    ]
    assert missing == []
