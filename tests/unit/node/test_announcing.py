"""The node describes itself as a whole."""

from __future__ import annotations

from swarmd.executor.fake import FakeExecutor
from swarmd.model import GenericResource
from swarmd.node.announcing import Announcing

GPU = (GenericResource(kind="gpu", names=("U1",)),)


async def test_the_softwares_features_join_the_executors() -> None:
    executor = FakeExecutor()
    own = (await executor.describe()).features
    description = await Announcing(executor, ("x.1",)).describe()
    assert description.features == tuple(sorted({*own, "x.1"}))


async def test_what_the_operator_says_of_generic_resources_wins() -> None:
    executor = FakeExecutor()
    plain = (await executor.describe()).resources
    assert (await Announcing(executor, ()).describe()).resources == plain
    resources = (await Announcing(executor, (), GPU).describe()).resources
    assert resources.generic == GPU
    assert resources.nano_cpus == plain.nano_cpus
