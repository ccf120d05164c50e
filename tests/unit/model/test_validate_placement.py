"""Placement and generic reservations: what is refused, with which field."""

from __future__ import annotations

import pytest

from swarmd.errors import Invalid
from swarmd.model import Driver, GenericResource, Placement, PlacementPreference, Platform
from swarmd.model.validate_placement import check_generic_reservations, check_log_driver, check_placement


def test_what_can_be_placed_by_passes() -> None:
    check_placement(
        Placement(
            constraints=("node.role==worker",),
            preferences=(PlacementPreference(spread="node.labels.zone"), PlacementPreference(spread="Engine.Labels.X")),
            platforms=(Platform(architecture="amd64", os="linux"), Platform()),
            max_replicas=3,
        ),
        "$",
    )
    check_generic_reservations((GenericResource(kind="gpu", amount=2), GenericResource(kind="apple", amount=1)), "$")


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (Placement(constraints=("node.role==worker", "nonsense")), "$.constraints[1]"),
        (Placement(constraints=("node.role==worker",) * 257), "$.constraints"),
        (Placement(preferences=(PlacementPreference(spread="node.hostname"),)), "$.preferences[0].spread"),
        (Placement(preferences=(PlacementPreference(spread="node.labels."),)), "$.preferences[0].spread"),
        (Placement(platforms=(Platform(os="lin\nux"),)), "$.platforms[0].os"),
        (Placement(platforms=(Platform(architecture="x" * 65),)), "$.platforms[0].architecture"),
        (Placement(max_replicas=-1), "$.max_replicas"),
    ],
)
def test_what_cannot_is_told_with_its_field(placement: Placement, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_placement(placement, "$")
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("reservations", "field"),
    [
        ((GenericResource(kind="", amount=1),), "$[0].kind"),
        ((GenericResource(kind="gpu", names=("UUID1",)),), "$[0].names"),
        ((GenericResource(kind="gpu", amount=1), GenericResource(kind="gpu", amount=1)), "$[1]"),
        ((GenericResource(kind="gpu", amount=0),), "$[0].amount"),
        ((GenericResource(kind="gpu", amount=-1),), "$[0].amount"),
    ],
)
def test_only_amounts_can_be_reserved(reservations: tuple[GenericResource, ...], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_generic_reservations(reservations, "$")
    assert raised.value.field == field


def test_a_log_driver_has_a_printable_name_and_text_options() -> None:
    check_log_driver(None, "$")
    check_log_driver(Driver(name="json-file", options={"max-size": "10m"}), "$")
    for name in ("a\nb", "x" * 300):
        with pytest.raises(Invalid) as caught:
            check_log_driver(Driver(name=name), "$.log_driver")
        assert caught.value.field == "$.log_driver.name"
