"""The validity of specs: each function returns nothing or raises `Invalid` naming the field, the reason, a hint."""

from __future__ import annotations

from swarmd.errors import Invalid
from swarmd.model.specs import ClusterSpec, NodeSpec, ServiceSpec


def validate_service_spec(spec: ServiceSpec) -> None:
    """Raise `Invalid` unless `spec` could run (reference api-and-cli 1.5)."""
    if not spec.name:
        raise Invalid("a service needs a name", field="$.name")


def validate_node_spec(spec: NodeSpec) -> None:
    """Raise `Invalid` unless `spec` can be stored."""


def validate_cluster_spec(spec: ClusterSpec) -> None:
    """Raise `Invalid` unless `spec` can be stored."""
