"""What a node announces of itself, as far as every manager can read it (foundations: Version skew)."""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import Cluster, NodeDescription
from swarmd.state.features import ORCHESTRATION


def readable(description: NodeDescription, cluster: Cluster | None) -> NodeDescription:
    """The description without what a manager of an older version could not read, while one takes part."""
    if cluster is not None and ORCHESTRATION in cluster.feature_level:
        return description
    return replace(description, plugins=(), resources=replace(description.resources, generic=()))
