"""Every row of the table that says what a wish about the root means (reference security 4.2)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import CAConfig, JoinTokens, RootCA, RootRotation
from swarmd.pki import (
    Authority,
    NewRoot,
    begin_rotation,
    check_cross_signed,
    cross_sign,
    decide_root,
    own_root,
    root_digest,
    signing_of,
)
from tests.unit.pki.made_roots import NOW, key_of, root_of

PRESENT, PRESENT_KEY = root_of(name="present"), key_of()
NEW, NEW_KEY = root_of("p384", name="new"), key_of("p384")
THIRD, THIRD_KEY = root_of("rsa2048", name="third"), key_of("rsa2048")
OWN = own_root(NOW)

INTERNAL = RootCA(
    certificate=PRESENT,
    key=PRESENT_KEY,
    digest=root_digest(PRESENT),
    join_tokens=JoinTokens(worker="w", manager="m"),
    last_forced_rotation=3,
)
EXTERNAL = replace(INTERNAL, key=b"")
CROSSED = cross_sign(INTERNAL, NewRoot(certificate=NEW))
ROTATION = RootRotation(certificate=NEW, key=NEW_KEY, cross_signed=CROSSED, started_at=NOW - 60)
ON_ITS_WAY = replace(INTERNAL, rotation=ROTATION)
ON_ITS_WAY_EXTERNALLY = replace(INTERNAL, rotation=replace(ROTATION, key=b""))
FROM_EXTERNAL = replace(EXTERNAL, rotation=ROTATION)


LISTED = {"external_cas": [{"url": "https://ca.example/"}]}


def decide(root: RootCA, *, reachable: tuple[bytes, ...] = (), **wanted: object) -> RootCA | NewRoot:
    return decide_root(
        root,
        msgspec.convert({"force_rotate": 3} | wanted, CAConfig),
        is_reachable=lambda certificate: certificate in reachable,
        make_root=lambda: OWN,
        now=NOW,
    )


def signing(certificate: bytes, key: bytes = b"") -> dict[str, bytes]:
    return {"signing_ca_certificate": certificate, "signing_ca_key": key}


# -- what changes nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "reachable"),
    [
        (INTERNAL, ()),
        (ON_ITS_WAY, ()),
        (EXTERNAL, (PRESENT,)),
        (FROM_EXTERNAL, (PRESENT,)),
        (ON_ITS_WAY_EXTERNALLY, (NEW,)),
        (replace(ON_ITS_WAY_EXTERNALLY, key=b""), (PRESENT, NEW)),
    ],
)
def test_row_5_no_wish_changes_nothing_whether_a_rotation_is_under_way_or_not(
    root: RootCA, reachable: tuple[bytes, ...]
) -> None:
    assert decide(root, reachable=reachable) is root


@pytest.mark.parametrize("counter", [0, 2, 3])
def test_a_counter_that_is_not_higher_asks_for_nothing(counter: int) -> None:
    assert decide(INTERNAL, force_rotate=counter) == INTERNAL


# -- what keeps, replaces or ends a rotation -----------------------------------------------------------------------


@pytest.mark.parametrize("root", [EXTERNAL, FROM_EXTERNAL])
def test_row_2_a_key_for_the_present_root_makes_it_internal_and_ends_a_rotation(root: RootCA) -> None:
    assert decide(root, **signing(PRESENT, PRESENT_KEY), force_rotate=4) == replace(
        INTERNAL, rotation=None, last_forced_rotation=4
    )


@pytest.mark.parametrize(("root", "reachable"), [(INTERNAL, ()), (ON_ITS_WAY, ()), (EXTERNAL, (PRESENT,))])
def test_row_4_a_higher_counter_asks_for_a_new_root(root: RootCA, reachable: tuple[bytes, ...]) -> None:
    assert decide(root, reachable=reachable, force_rotate=4) == OWN


def test_row_7_wanting_the_present_root_ends_a_rotation() -> None:
    assert decide(ON_ITS_WAY, **signing(PRESENT, PRESENT_KEY)) == INTERNAL
    assert decide(INTERNAL, **signing(PRESENT, PRESENT_KEY)) == INTERNAL


@pytest.mark.parametrize("root", [INTERNAL, ON_ITS_WAY])
def test_row_7_without_a_key_it_becomes_an_external_cas(root: RootCA) -> None:
    assert decide(root, reachable=(PRESENT,), **signing(PRESENT), **LISTED, force_rotate=9) == replace(
        EXTERNAL, last_forced_rotation=9
    )


def test_row_7_a_rotation_can_be_called_off_without_the_key_that_never_leaves() -> None:
    assert decide(ON_ITS_WAY, **signing(PRESENT)) == INTERNAL
    for_another = {"external_cas": [{"url": "https://ca.example/", "ca_certificate": NEW}]}
    assert decide(ON_ITS_WAY, reachable=(NEW,), **signing(PRESENT), **for_another) == INTERNAL


def test_row_7_going_back_does_not_ask_how_long_the_present_root_holds() -> None:
    old = root_of(name="present", days=100)
    root = replace(ON_ITS_WAY, certificate=old)
    assert decide(root, **signing(old, PRESENT_KEY)) == replace(root, rotation=None)


def test_row_9_wanting_the_root_that_is_rotated_to_keeps_the_rotation_and_replaces_its_key() -> None:
    assert decide(ON_ITS_WAY, **signing(NEW, NEW_KEY)) == ON_ITS_WAY
    assert decide(ON_ITS_WAY_EXTERNALLY, **signing(NEW, NEW_KEY), force_rotate=4) == replace(
        ON_ITS_WAY, last_forced_rotation=4
    )
    assert decide(ON_ITS_WAY, reachable=(NEW,), **signing(NEW)) == ON_ITS_WAY_EXTERNALLY
    assert decide(FROM_EXTERNAL, reachable=(PRESENT,), **signing(NEW, NEW_KEY)) == FROM_EXTERNAL


def test_how_a_certificate_is_written_makes_no_other_root_of_it() -> None:
    scruffy = b"a comment\n" + NEW.replace(b"\n", b"\r\n") + b"\n\n"
    assert decide(ON_ITS_WAY, **signing(scruffy, NEW_KEY)) == ON_ITS_WAY


@pytest.mark.parametrize(
    ("root", "key", "reachable"),
    [
        (INTERNAL, THIRD_KEY, ()),
        (INTERNAL, b"", (THIRD,)),
        (ON_ITS_WAY, THIRD_KEY, ()),
        (ON_ITS_WAY, b"", (THIRD,)),
        (ON_ITS_WAY_EXTERNALLY, THIRD_KEY, ()),
        (EXTERNAL, THIRD_KEY, (PRESENT,)),
        (FROM_EXTERNAL, THIRD_KEY, (PRESENT,)),
    ],
)
def test_row_10_another_root_begins_a_rotation_in_place_of_any_other(
    root: RootCA, key: bytes, reachable: tuple[bytes, ...]
) -> None:
    assert decide(root, reachable=reachable, **signing(THIRD, key)) == NewRoot(certificate=THIRD, key=key)


def test_a_certificate_that_is_wanted_goes_before_the_counter() -> None:
    assert decide(INTERNAL, **signing(NEW, NEW_KEY), force_rotate=9) == NewRoot(certificate=NEW, key=NEW_KEY)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "wanted", "reachable", "reason"),
    [
        (INTERNAL, signing(b"", NEW_KEY), (), "needs the certificate"),  # row 1
        (EXTERNAL, signing(b"", NEW_KEY), (PRESENT,), "needs the certificate"),
        (EXTERNAL, signing(PRESENT, NEW_KEY), (PRESENT,), "does not belong"),  # row 2
        (EXTERNAL, {}, (), "the present root has no key"),  # row 3
        (EXTERNAL, {"force_rotate": 4}, (), "the present root has no key"),
        (EXTERNAL, signing(NEW, NEW_KEY), (NEW,), "the present root has no key"),
        (FROM_EXTERNAL, {}, (), "the present root has no key"),
        (ON_ITS_WAY_EXTERNALLY, {}, (PRESENT,), "being rotated to has no key"),  # row 5
        (INTERNAL, signing(b"rubbish", NEW_KEY), (), "no certificate"),  # row 6
        (INTERNAL, signing(NEW + THIRD, NEW_KEY), (), "exactly one"),
        (INTERNAL, signing(NEW, THIRD_KEY), (), "does not belong"),
        (INTERNAL, signing(NEW, b"rubbish"), (), "no unencrypted private key"),
        (INTERNAL, signing(root_of("p384", days=300), NEW_KEY), (), "for a year at least"),
        (INTERNAL, signing(root_of("p384", ca=False), NEW_KEY), (), "CA is not true"),
        (INTERNAL, signing(root_of("p384", issuer="x"), NEW_KEY), (), "not self-signed"),
        (INTERNAL, signing(root_of("rsa1024"), key_of("rsa1024")), (), "its key must be"),
        (INTERNAL, signing(NEW), (), "the wanted root has no key"),
        (INTERNAL, signing(NEW), (PRESENT,), "the wanted root has no key"),
        (INTERNAL, signing(PRESENT) | LISTED, (), "the wanted root has no key"),
        (ON_ITS_WAY, signing(PRESENT) | LISTED, (NEW,), "the wanted root has no key"),
        (ON_ITS_WAY, signing(PRESENT, NEW_KEY), (), "does not belong"),
        (INTERNAL, signing(root_of(name="renamed"), PRESENT_KEY), (), "the present root's key"),  # row 8
        (EXTERNAL, signing(THIRD), (PRESENT, THIRD), "from one external CA to another"),
    ],
)
def test_what_is_refused_says_why(
    root: RootCA, wanted: dict[str, object], reachable: tuple[bytes, ...], reason: str
) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        decide(root, reachable=reachable, **wanted)
    assert refused.value.field is not None
    for key in (PRESENT_KEY, NEW_KEY, THIRD_KEY):
        assert key.splitlines()[1].decode() not in str(refused.value) + str(refused.value.hint)


# -- what a decision means -----------------------------------------------------------------------------------------


def test_a_rotation_is_signed_by_the_present_root_and_never_by_one_that_is_only_on_its_way() -> None:
    third = NewRoot(certificate=THIRD, key=THIRD_KEY)
    crossed = cross_sign(ON_ITS_WAY, third)
    check_cross_signed(crossed, new=THIRD, by=PRESENT, now=NOW)
    begun = begin_rotation(ON_ITS_WAY, third, cross_signed=crossed, force_rotate=5, now=NOW)
    assert begun == replace(
        ON_ITS_WAY,
        last_forced_rotation=5,
        rotation=RootRotation(certificate=THIRD, key=THIRD_KEY, cross_signed=crossed, started_at=NOW),
    )


def test_the_new_root_signs_while_a_rotation_is_under_way() -> None:
    now = signing_of(INTERNAL)
    assert (now.certificate, now.key, now.cross_signed) == (PRESENT, PRESENT_KEY, b"")
    then = signing_of(ON_ITS_WAY)
    assert (then.certificate, then.key, then.cross_signed) == (NEW, NEW_KEY, CROSSED)


def test_no_key_is_in_what_is_printed() -> None:
    for shown in (repr(OWN), repr(signing_of(INTERNAL)), repr(ON_ITS_WAY)):
        assert "PRIVATE" not in shown


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["force", "new", "third", "present", "nothing"]), max_size=12))
def test_any_row_of_wishes_leaves_a_root_that_can_sign_and_that_all_nodes_can_follow(wishes: list[str]) -> None:
    root, forced = INTERNAL, 3
    for wish in wishes:
        forced += wish == "force"
        given_root = {
            "new": signing(NEW, NEW_KEY),
            "third": signing(THIRD, THIRD_KEY),
            "present": signing(PRESENT, PRESENT_KEY),
        }.get(wish, {})
        decided = decide(root, **given_root, force_rotate=forced)
        if isinstance(decided, NewRoot):
            decided = begin_rotation(
                root, decided, cross_signed=cross_sign(root, decided), force_rotate=forced, now=NOW
            )
        root = decided
        assert root.certificate == PRESENT  # only the reconciler ends a rotation
        signs = signing_of(root)
        Authority(signs.certificate, signs.key)
        if root.rotation is not None:
            check_cross_signed(signs.cross_signed, new=signs.certificate, by=PRESENT, now=NOW)
        assert (root.rotation is None) == (signs.certificate == PRESENT)
        if wish == "present":
            assert root.rotation is None
        assert root.last_forced_rotation <= forced
