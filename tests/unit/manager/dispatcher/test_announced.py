"""What a node says of itself is stored once every manager can read it."""

from __future__ import annotations

from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.manager.dispatcher.announced import readable
from swarmd.model import Cluster, GenericResource, NodeDescription, Plugin, Resources
from swarmd.state.features import ORCHESTRATION
from swarmd.wire.dispatch import SessionRequest
from tests.unit.manager.dispatcher.world import N1, World, node, settle

WHOLE = NodeDescription(
    hostname="box",
    resources=Resources(nano_cpus=1, generic=(GenericResource(kind="gpu", amount=2),)),
    plugins=(Plugin(type="Log", name="syslog"),),
)
PLAIN = NodeDescription(hostname="box", resources=Resources(nano_cpus=1))


def test_what_an_older_manager_could_not_read_is_left_out() -> None:
    assert readable(WHOLE, None) == PLAIN
    assert readable(WHOLE, Cluster(id="c")) == PLAIN
    assert readable(WHOLE, Cluster(id="c", feature_level=(ORCHESTRATION,))) is WHOLE


async def test_it_is_written_as_soon_as_the_last_manager_can_read_it(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", SessionRequest(description=WHOLE)):
        assert world.node(N1).description == PLAIN
        world.update_cluster(feature_level=(ORCHESTRATION,))
        await settle()
        assert world.node(N1).description == WHOLE


async def test_any_other_change_of_the_swarm_writes_nothing(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", SessionRequest(description=WHOLE)):
        cluster = world.store.state.cluster()
        assert cluster is not None
        world.update_cluster(spec=replace(cluster.spec, labels={"a": "b"}))
        index = world.store.state.index
        await settle()
        assert world.store.state.index == index
