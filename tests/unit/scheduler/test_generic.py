"""Generic resources: what is given out, taken back, and left when a node changes what it has (reference 10, 32)."""

from __future__ import annotations

from swarmd.model import GenericResource
from swarmd.scheduler.generic import GenericStock


def amount(kind: str, amount: int) -> GenericResource:
    return GenericResource(kind=kind, amount=amount)


def names(kind: str, *names: str) -> GenericResource:
    return GenericResource(kind=kind, names=names)


def stock(*described: GenericResource) -> GenericStock:
    made = GenericStock()
    made.describe(0, (), described)
    return made


def test_an_amount_is_given_out_and_comes_back() -> None:
    made = stock(amount("apple", 5))
    given = made.claim(0, (amount("apple", 3),))
    assert given == (amount("apple", 3),)
    made.take(0, given)
    assert made.free(0, "apple") == 2
    assert not made.fits(0, (amount("apple", 3),))
    made.give_back(0, given)
    assert made.free(0, "apple") == 5


def test_of_a_set_the_first_free_names_are_given_out() -> None:
    made = stock(names("gpu", "a", "b", "c"))
    first = made.claim(0, (amount("gpu", 1),))
    made.take(0, first)
    second = made.claim(0, (amount("gpu", 2),))
    made.take(0, second)
    assert (first, second) == ((names("gpu", "a"),), (names("gpu", "b", "c"),))
    assert not made.fits(0, (amount("gpu", 1),))
    made.give_back(0, first)
    assert made.claim(0, (amount("gpu", 1),)) == (names("gpu", "a"),)


def test_a_kind_the_node_lacks_is_not_enough() -> None:
    made = stock(amount("apple", 5))
    assert not made.fits(0, (amount("pear", 1),))
    assert made.perhaps((amount("pear", 1),)) == 0
    assert made.perhaps((amount("apple", 1), amount("pear", 1))) == 0


def test_what_a_node_has_less_of_is_not_given_out_twice_when_it_grows_again() -> None:
    made = stock(amount("apple", 5))
    held = (amount("apple", 4),)
    made.take(0, held)
    made.describe(0, (amount("apple", 5),), (amount("apple", 2),))
    assert not made.fits(0, (amount("apple", 1),))
    made.describe(0, (amount("apple", 2),), (amount("apple", 8),))
    assert made.free(0, "apple") == 4
    made.give_back(0, held)
    assert made.free(0, "apple") == 8


def test_members_that_are_gone_are_not_given_out_again() -> None:
    made = stock(names("gpu", "a", "b"))
    held = made.claim(0, (amount("gpu", 1),))
    made.take(0, held)
    made.describe(0, (names("gpu", "a", "b"),), (names("gpu", "b"),))
    made.give_back(0, held)
    assert made.free(0, "gpu") == 1
    assert made.claim(0, (amount("gpu", 1),)) == (names("gpu", "b"),)


def test_a_kind_that_turns_from_amount_to_set_or_back_begins_anew() -> None:
    made = stock(amount("gpu", 2))
    counted = (amount("gpu", 2),)
    made.take(0, counted)
    made.describe(0, counted, (names("gpu", "a", "b"),))
    named = made.claim(0, (amount("gpu", 1),))
    made.take(0, named)
    assert made.free(0, "gpu") == 1
    made.describe(0, (names("gpu", "a", "b"),), counted)
    assert made.free(0, "gpu") == 0, "what was counted is still held"
    made.give_back(0, counted)
    made.give_back(0, named)
    assert made.free(0, "gpu") == 2


def test_a_node_that_goes_leaves_nothing_behind_once_its_tasks_are_gone() -> None:
    made = stock(amount("apple", 1), names("gpu", "a"))
    held = made.claim(0, (amount("gpu", 1),))
    made.take(0, held)
    made.describe(0, (amount("apple", 1), names("gpu", "a")), ())
    made.give_back(0, held)
    assert made.rooms == {}
    assert made._nodes == {}
