"""Update settings: what is refused, with which field."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.errors import Invalid
from swarmd.model import FailureAction, UpdateConfig, UpdateOrder
from swarmd.model.validate_update import check_update_config


def test_what_slots_could_be_moved_by_passes() -> None:
    check_update_config(UpdateConfig(), "$.update", "update")
    whole = UpdateConfig(
        parallelism=0,
        delay_s=1.5,
        failure_action=FailureAction.ROLLBACK,
        monitor_s=0.0,
        max_failure_ratio=1.0,
        order=UpdateOrder.START_FIRST,
        progress_timeout_s=0.0,
    )
    check_update_config(whole, "$.rollback", "rollback")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parallelism", -1),
        ("delay_s", -0.1),
        ("delay_s", float("nan")),
        ("monitor_s", float("inf")),
        ("max_failure_ratio", 1.01),
        ("max_failure_ratio", -0.01),
        ("max_failure_ratio", float("nan")),
        ("progress_timeout_s", -1.0),
    ],
)
def test_what_not_is_told_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(Invalid) as raised:
        check_update_config(UpdateConfig(**{field: value}), "$.update", "update")
    assert raised.value.field == f"$.update.{field}"
