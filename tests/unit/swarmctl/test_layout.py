from __future__ import annotations

import json

from swarmctl.render.layout import summary, table
from swarmctl.render.plain import plain, to_json, to_yaml
from swarmd.model import ContainerStatus, Meta, RestartCondition, RootCA, Task, TaskState, TaskStatus
from tests.unit.swarmctl.fake_daemon import service_view, task_for


def test_table() -> None:
    assert table(("ID", "Long Name"), [("1", "x"), ("22", "")]) == (
        "ID  Long Name\n"
        "--  ---------\n"
        "1   x\n"
        "22\n"
    )  # fmt: skip


def test_empty_table_keeps_both_header_rows() -> None:
    assert table(("ID", "Name"), [], gap=4) == "ID    Name\n--    ----\n"


def test_summary_aligns_all_values_and_skips_empty_ones() -> None:
    assert summary([("ID", "1"), ("Empty", ""), ("Template", None), (" Container", None), ("  Image", "redis")]) == (
        "ID                : 1\n"
        "Template\n"
        " Container\n"
        "  Image           : redis\n"
    )  # fmt: skip


def test_cells_cannot_break_the_table() -> None:
    assert table(("A",), [("x\ny\x1b",)]) == "A\n-\nx y\n"


def test_plain_data_has_every_field_in_the_words_of_the_model() -> None:
    view = service_view("s", "web")
    task = task_for(view, "t", 1, status=TaskStatus(state=TaskState.FAILED, at=1_800_000_000.0))
    document = plain(task)
    assert set(document) == set(Task.__struct_fields__)
    assert document["desired_state"] == "RUNNING"
    assert document["status"] == {
        "state": "FAILED",
        "at": "2027-01-15T08:00:00Z",
        "message": "",
        "err": "",
        "container": None,
        "applied_by": "",
        "applied_at": None,
        "running_at": None,
        "unplaced": None,
    }
    assert document["spec"]["restart"]["condition"] == RestartCondition.ANY.name == "ANY"
    assert document["spec"]["restart"]["delay_s"] == 5.0
    assert plain(view.service)["spec"]["mode"] == {"kind": "replicated", "replicas": 1}
    assert plain(RootCA(certificate=b"\x00\xff"))["certificate"] == "AP8="
    assert plain(Meta())["created_at"] is None
    assert plain(ContainerStatus(exit_code=0))["exit_code"] == 0


def test_json_is_json_whatever_is_in_it() -> None:
    document = {"a": "\x9b\x1b\u2028\ud800é😀", "b": [1, 2.5, None, True]}
    text = to_json(document)
    assert json.loads(text) == document
    assert "\x9b" not in text
    assert "é😀" in text


def test_yaml() -> None:
    document = {
        "name": "web",
        "empty": [],
        "none": None,
        "args": ["yes", "1", "a: b", "/bin/sh", ""],
        "nested": {"list": [{"a": 1, "b": {"c": "x"}}, [1, 2]], "map": {}},
    }
    assert to_yaml(document) == (
        "name: web\n"
        "empty: []\n"
        "none: null\n"
        "args:\n"
        '  - "yes"\n'
        '  - "1"\n'
        '  - "a: b"\n'
        "  - /bin/sh\n"
        '  - ""\n'
        "nested:\n"
        "  list:\n"
        "    - a: 1\n"
        "      b:\n"
        "        c: x\n"
        "    - - 1\n"
        "      - 2\n"
        "  map: {}\n"
    )
    assert to_yaml([]) == "[]\n"
