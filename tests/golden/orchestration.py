"""A history with everything that came with the feature `orchestration.1`, each field of it set once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from swarmd.model import (
    Cluster,
    ClusterSpec,
    ContainerSpec,
    DependencyCondition,
    Driver,
    Endpoint,
    EndpointMode,
    EndpointSpec,
    FailureAction,
    FilterVerdict,
    GenericResource,
    Global,
    GlobalJob,
    IPAMConfig,
    IPAMOptions,
    JobStatus,
    Mode,
    Network,
    NetworkAttachment,
    NetworkDefaults,
    NetworkSpec,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Placement,
    PlacementFailure,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    Plugin,
    PortConfig,
    PortProtocol,
    PublishMode,
    Rebalancing,
    Replicated,
    ReplicatedJob,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Service,
    ServiceDependency,
    ServiceSpec,
    Task,
    TaskDefaults,
    TaskSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
    UpdateState,
    UpdateStatus,
    VirtualIP,
)
from swarmd.state import Table, Transaction
from swarmd.state.features import KINDS, ORCHESTRATION
from swarmd.state.selectors import ByPublishedPort
from tests.golden.kinds import id_of

AT: Final = 1_700_000_000.25
DRIVER: Final = Driver(name="json-file", options={"max-size": "1m"})
NETWORK: Final = Network(
    id=id_of("overlay"),
    spec=NetworkSpec(name="front"),
    driver_state=Driver(name="overlay", options={"com.docker.network.driver.overlay.vxlanid_list": "4096"}),
    ipam=IPAMOptions(configs=(IPAMConfig(subnet="10.0.0.0/20", gateway="10.0.0.1"),)),
)
PORTS: Final = (
    PortConfig(name="web", target_port=80, published_port=30_000),
    PortConfig(protocol=PortProtocol.UDP, target_port=53, published_port=5_353, publish_mode=PublishMode.HOST),
)
ENDPOINT: Final = Endpoint(
    spec=EndpointSpec(mode=EndpointMode.DNSRR, ports=PORTS),
    ports=PORTS,
    virtual_ips=(VirtualIP(network_id=NETWORK.id, addr="10.0.0.2/20"),),
)
ATTACHMENT: Final = NetworkAttachment(
    network_id=NETWORK.id, addresses=("10.0.0.3/20",), aliases=("web",), driver_attachment_options={"a": "b"}
)
UPDATE: Final = UpdateConfig(
    parallelism=2,
    delay_s=1.5,
    failure_action=FailureAction.ROLLBACK,
    monitor_s=7.5,
    max_failure_ratio=0.25,
    order=UpdateOrder.START_FIRST,
    progress_timeout_s=60.5,
)
GENERIC: Final = (GenericResource(kind="gpu", names=("one", "two")), GenericResource(kind="ssd", amount=3))
PLACEMENT: Final = Placement(
    constraints=("node.labels.zone == a",),
    max_replicas=2,
    preferences=(PlacementPreference(spread="node.labels.zone"),),
    platforms=(Platform(architecture="aarch64", os="linux"),),
    strategy=PlacementStrategy.BINPACK,
)
TEMPLATE: Final = TaskSpec(
    container=ContainerSpec(image="web:1"),
    resources=ResourceRequirements(reservations=ResourceLimits(generic=(GenericResource(kind="gpu", amount=2),))),
    placement=PLACEMENT,
    log_driver=DRIVER,
)
UNPLACED: Final = PlacementFailure(
    nodes=3,
    verdicts=(FilterVerdict(filter="resources", nodes=2, detail="1 of 2 gpu", examples=(id_of("node"),)),),
    fix="2 gpu more on a node",
)


def a_service(word: str, mode: Mode) -> Service:
    """One of this mode, named so."""
    return Service(id=id_of(word), spec=ServiceSpec(name=word, task=TEMPLATE, mode=mode))


BASE: Final = a_service("base", Replicated(replicas=3))
WEB: Final = replace(
    a_service("web", Global()),
    spec=ServiceSpec(
        name="web",
        task=TEMPLATE,
        mode=Global(),
        update=UPDATE,
        rollback=replace(UPDATE, parallelism=3),
        endpoint=ENDPOINT.spec,
        depends_on=(ServiceDependency(service="base", condition=DependencyCondition.HEALTHY),),
    ),
    endpoint=ENDPOINT,
)
JOB: Final = replace(
    a_service("job", ReplicatedJob(max_concurrent=5, total_completions=20)),
    job_status=JobStatus(job_iteration=2, last_execution=AT),
)
SWEEP: Final = a_service("sweep", GlobalJob(follow_nodes=True))
NODE: Final = Node(
    id=id_of("node"),
    description=NodeDescription(
        resources=Resources(nano_cpus=1, generic=GENERIC), plugins=(Plugin(type="Log", name="json-file"),)
    ),
    status=NodeStatus(state=NodeState.READY, confirmed=True),
    attachments=(ATTACHMENT,),
)
TASK: Final = Task(
    id=id_of("task"),
    service_id=WEB.id,
    service_name="web",
    spec=TEMPLATE,
    status=TaskStatus(state=TaskState.PENDING, at=AT, err="no suitable node", unplaced=UNPLACED),
)


def create_the_swarm(tx: Transaction) -> None:
    cluster = Cluster(id=id_of("cluster"), feature_level=(KINDS, ORCHESTRATION))
    tx.create(cluster)
    networks = NetworkDefaults(default_address_pools=("10.0.0.0/9",), subnet_size=24, vxlan_port=4_790)
    tx.update(replace(cluster, spec=ClusterSpec(task_defaults=TaskDefaults(log_driver=DRIVER), networks=networks)))
    tx.create(NODE)
    tx.networks()
    tx.create(NETWORK)


def create_services_of_every_mode(tx: Transaction) -> None:
    tx.find(Service, ByPublishedPort("tcp/30000"))
    for service in (BASE, WEB, JOB, SWEEP):
        tx.create(service)


def update_and_rebalance(tx: Transaction) -> None:
    status = UpdateStatus(
        state=UpdateState.ROLLBACK_PAUSED,
        started_at=AT,
        completed_at=AT + 2,
        message="rollback paused",
        total=4,
        failed=("1", id_of("node")),
    )
    tx.update(replace(WEB, update_status=status, rebalancing=Rebalancing(started_at=AT, task_ids=(TASK.id,))))


def explain_then_place_a_task(tx: Transaction) -> None:
    tx.create(TASK)
    tx.tasks_of_slot(WEB.id, 0, NODE.id)
    placed = replace(
        TASK,
        id=id_of("placed"),
        node_id=NODE.id,
        endpoint=ENDPOINT,
        networks=(ATTACHMENT,),
        log_driver=DRIVER,
        assigned_generic_resources=GENERIC,
        job_iteration=2,
        failures=3,
    )
    tx.create(placed)


def remove_a_network_and_a_service(tx: Transaction) -> None:
    tx.create(replace(NETWORK, id=id_of("second"), spec=NetworkSpec(name="second")))
    tx.remove(Table.NETWORK, NETWORK.id)
    tx.remove(Table.SERVICE, BASE.id)


STEPS: Final[dict[str, Callable[[Transaction], object]]] = {
    "orchestration-create-the-swarm": create_the_swarm,
    "orchestration-create-services-of-every-mode": create_services_of_every_mode,
    "orchestration-update-and-rebalance": update_and_rebalance,
    "orchestration-explain-then-place": explain_then_place_a_task,
    "orchestration-remove-some": remove_a_network_and_a_service,
}
