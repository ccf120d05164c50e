"""The kinds of object that lists and inspections print."""

from __future__ import annotations

from typing import Final

from swarmctl.render.cluster import cluster_document
from swarmctl.render.networks import network_document
from swarmctl.render.nodes import node_document
from swarmctl.render.payloads import config_document, secret_document
from swarmctl.render.services import service_document
from swarmctl.render.tasks import task_document
from swarmctl.resolve import node_name
from swarmctl.show import Kind
from swarmd.model import Task
from swarmd.wire.cluster import ClusterView
from swarmd.wire.control import NodeView, ServiceView
from swarmd.wire.networks import NetworkView
from swarmd.wire.payloads import ConfigView, SecretView

NODE: Final[Kind[NodeView]] = Kind(lambda view: view.node.id, lambda view: node_name(view.node), node_document)
SERVICE: Final[Kind[ServiceView]] = Kind(
    lambda view: view.service.id, lambda view: view.service.spec.name, service_document
)
TASK: Final[Kind[Task]] = Kind(lambda task: task.id, lambda task: task.name, task_document)
CLUSTER: Final[Kind[ClusterView]] = Kind(
    lambda view: view.cluster.id, lambda view: view.cluster.spec.name, cluster_document
)
SECRET: Final[Kind[SecretView]] = Kind(lambda view: view.secret.id, lambda view: view.secret.spec.name, secret_document)
CONFIG: Final[Kind[ConfigView]] = Kind(lambda view: view.config.id, lambda view: view.config.spec.name, config_document)
NETWORK: Final[Kind[NetworkView]] = Kind(
    lambda view: view.network.id, lambda view: view.network.spec.name, network_document
)
