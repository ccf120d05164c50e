"""The grammar of constraints and what nodes meet (reference orchestration 7.6, scenarios 26 to 30)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import Node, NodeDescription, NodeSpec, NodeStatus, Platform, Role
from swarmd.model.constraints import Constraint, Operator, meets, parse_constraint, parsed

NODE = Node(
    id="node1",
    spec=NodeSpec(labels={"zone": "EU-west", "Zone": "other"}),
    role=Role.MANAGER,
    description=NodeDescription(
        hostname="Box-1", platform=Platform(architecture="x86_64", os="linux"), engine_labels={"disk": "ssd"}
    ),
    status=NodeStatus(addr="192.0.2.17"),
)
BARE = Node(id="bare")


def meet(node: Node, *texts: str) -> bool:
    return meets(node, parsed(texts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "==",
        "key",
        "key=value",
        "key~value",
        "1key==a",
        "ke y==a",
        "k==a",
        "ke*y==a",
        "ke$y==a",
        "key==",
        "key==a!",
    ],
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_constraint(text, "$.here")
    assert raised.value.field == "$.here"
    assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node.id==a", Constraint("node.id", Operator.EQUAL, "a")),
        (" Node.Hostname  !=  two words ", Constraint("node.hostname", Operator.DIFFERENT, "two words")),
        ("_a.b-c==x", Constraint("_a.b-c", Operator.EQUAL, "x")),
        ("node.labels.Zone==(a|b)?[c]+\\^$*.", Constraint("node.labels.Zone", Operator.EQUAL, "(a|b)?[c]+\\^$*.")),
        ("NODE.LABELS.Zone==a", Constraint("node.labels.Zone", Operator.EQUAL, "a")),
    ],
)
def test_what_is_one(text: str, expected: Constraint) -> None:
    assert parse_constraint(text) == expected


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("node.id==NODE1", True),
        ("node.id!=node1", False),
        ("node.id==node*", False),
        ("node.hostname==box-1", True),
        ("node.role==manager", True),
        ("node.role!=worker", True),
        ("node.platform.os==Linux", True),
        ("node.platform.arch==amd64", False),
        ("node.labels.zone==eu-WEST", True),
        ("node.labels.Zone==other", True),
        ("node.labels.ZONE==other", False),
        ("engine.labels.disk==ssd", True),
        ("node.labels.disk==ssd", False),
        ("node.labels.none!=x", True),
        ("node.labels.none==x", False),
        ("node.unknown==x", False),
        ("node.unknown!=x", False),
    ],
)
def test_values_are_compared_as_whole_texts_whatever_the_case(text: str, is_met: bool) -> None:
    assert meet(NODE, text) is is_met


@pytest.mark.parametrize(
    ("addr", "text", "is_met"),
    [
        ("192.0.2.17", "node.ip==192.0.2.17", True),
        ("192.0.2.17", "node.ip!=192.0.2.17", False),
        ("192.0.2.17", "node.ip==192.0.2.0/24", True),
        ("192.0.2.17", "node.ip!=198.51.100.0/24", True),
        ("192.0.2.17", "node.ip==0.0.0.0/0", True),
        ("2001:db8::1", "node.ip==2001:0DB8:0:0::1", True),
        ("2001:db8::1", "node.ip==0.0.0.0/0", False),
        ("192.0.2.17", "node.ip==elsewhere", False),
        ("192.0.2.17", "node.ip!=elsewhere", False),
        ("", "node.ip==192.0.2.17", False),
        ("", "node.ip!=192.0.2.17", True),
    ],
)
def test_addresses_are_compared_as_addresses(addr: str, text: str, is_met: bool) -> None:
    assert meet(replace(NODE, status=NodeStatus(addr=addr)), text) is is_met


def test_what_a_node_does_not_say_is_empty() -> None:
    assert meet(BARE, "node.hostname!=x", "node.platform.os!=linux", "node.labels.a!=b")
    assert not meet(BARE, "node.hostname==x")


def test_all_must_be_met() -> None:
    assert meet(NODE, "node.role==manager", "engine.labels.disk==ssd")
    assert not meet(NODE, "node.role==manager", "engine.labels.disk==hdd")
    assert meet(NODE)
