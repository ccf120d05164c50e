"""A history with every kind of object that came with the feature `kinds.1`, each field of them set once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from swarmd.model import (
    AccessScope,
    AccessSharing,
    AddressFamily,
    Annotations,
    Availability,
    BlockAccess,
    CapacityRange,
    Cluster,
    ClusterSpec,
    Config,
    ConfigReference,
    ConfigSpec,
    ContainerSpec,
    Driver,
    Extension,
    FileTarget,
    IndexEntry,
    IPAMConfig,
    IPAMOptions,
    MountAccess,
    Network,
    NetworkAttachmentConfig,
    NetworkAttachmentSpec,
    NetworkSpec,
    Node,
    NodeSpec,
    PublishState,
    Resource,
    Secret,
    SecretReference,
    SecretSpec,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    Topology,
    TopologyRequirement,
    Volume,
    VolumeAccessMode,
    VolumeAttachment,
    VolumeInfo,
    VolumePublishStatus,
    VolumeSecret,
    VolumeSpec,
)
from swarmd.state import Table, Transaction
from swarmd.state.features import KINDS
from swarmd.state.selectors import ByCustom, ByKind, ByName, ByReferencedConfig, ByReferencedSecret, ByVolumeAttachment


def id_of(word: str) -> str:
    """25 characters that begin with the word."""
    return word.ljust(25, "0")


LABELS: Final = {"team": "web"}
INDICES: Final = (IndexEntry(key="team", value="front"), IndexEntry(key="flag"))
DRIVER: Final = Driver(name="driver", options={"a": "b"})
IPAM: Final = IPAMOptions(
    driver=DRIVER,
    configs=(
        IPAMConfig(
            family=AddressFamily.IPV4,
            subnet="192.0.2.0/24",
            range="192.0.2.128/25",
            gateway="192.0.2.1",
            reserved={"host": "192.0.2.2"},
        ),
        IPAMConfig(family=AddressFamily.IPV6, subnet="2001:db8::/64"),
    ),
)
NETWORK: Final = Network(
    id=id_of("network"),
    spec=NetworkSpec(
        name="Front",
        labels=LABELS,
        indices=INDICES,
        driver_config=DRIVER,
        ipv6_enabled=True,
        internal=True,
        attachable=True,
        ingress=True,
        ipam=IPAM,
        config_from="local",
    ),
    driver_state=DRIVER,
    ipam=IPAM,
    pending_delete=True,
)
SECRET: Final = Secret(
    id=id_of("secret"),
    spec=SecretSpec(
        name="site.key", labels=LABELS, indices=INDICES, data=b"\x00hush\xff", templating=DRIVER, driver=DRIVER
    ),
    internal=True,
)
CONFIG: Final = Config(
    id=id_of("config"),
    spec=ConfigSpec(name="site.conf", labels=LABELS, indices=INDICES, data=b"\x00set\xff", templating=DRIVER),
)
VOLUME: Final = Volume(
    id=id_of("volume"),
    spec=VolumeSpec(
        name="data",
        labels=LABELS,
        indices=INDICES,
        group="fast",
        driver=DRIVER,
        access_mode=VolumeAccessMode(
            scope=AccessScope.MULTI_NODE,
            sharing=AccessSharing.ONE_WRITER,
            access=MountAccess(fs_type="ext4", mount_flags=("noatime",)),
        ),
        secrets=(VolumeSecret(key="password", secret=SECRET.id),),
        accessibility_requirements=TopologyRequirement(
            requisite=(Topology(segments={"zone": "a"}),), preferred=(Topology(segments={"zone": "b"}),)
        ),
        capacity_range=CapacityRange(required_bytes=1 << 30, limit_bytes=1 << 40),
        availability=Availability.DRAIN,
    ),
    publish_status=(
        VolumePublishStatus(
            node_id=id_of("node"),
            state=PublishState.PENDING_NODE_UNPUBLISH,
            publish_context={"device": "sda"},
            message="on its way",
        ),
    ),
    volume_info=VolumeInfo(
        capacity_bytes=1 << 31,
        volume_context={"c": "d"},
        volume_id="vol-1",
        accessible_topology=(Topology(segments={"zone": "a"}),),
    ),
    pending_delete=True,
)
RAW: Final = Volume(
    id=id_of("raw"), spec=VolumeSpec(name="raw", driver=DRIVER, access_mode=VolumeAccessMode(access=BlockAccess()))
)
EXTENSION: Final = Extension(
    id=id_of("extension"),
    annotations=Annotations(name="Certificate", labels=LABELS, indices=INDICES),
    description="what a web server shows",
)
RESOURCE: Final = Resource(
    id=id_of("resource"),
    annotations=Annotations(name="example.com", labels=LABELS, indices=INDICES),
    kind="certificate",
    payload=b"\x00opaque\xff",
)
FILE: Final = FileTarget(name="/etc/site.key", uid="1000", gid="1000", mode=0o400)
SPEC: Final = TaskSpec(
    container=ContainerSpec(
        image="web:1",
        secrets=(SecretReference(secret_id=SECRET.id, secret_name="site.key", file=FILE),),
        configs=(
            ConfigReference(config_id=CONFIG.id, config_name="site.conf", file=FileTarget(name="site.conf")),
            ConfigReference(config_id=CONFIG.id, config_name="site.conf", is_runtime=True),
        ),
    ),
    networks=(
        NetworkAttachmentConfig(
            target=NETWORK.id, aliases=("web",), addresses=("192.0.2.7",), driver_attachment_options={"e": "f"}
        ),
    ),
)
SERVICE: Final = Service(id=id_of("service"), spec=ServiceSpec(name="web", task=SPEC, indices=INDICES))
TASK: Final = Task(
    id=id_of("task"),
    service_id=SERVICE.id,
    service_name="web",
    slot=1,
    spec=SPEC,
    annotations=Annotations(name="first", labels=LABELS, indices=INDICES),
    volumes=(VolumeAttachment(id=VOLUME.id, source="group:fast", target="/data"),),
)
ATTACHMENT: Final = Task(
    id=id_of("attachment"),
    spec=TaskSpec(container=ContainerSpec(image=""), attachment=NetworkAttachmentSpec(container_id="c1")),
)


def create_a_swarm_that_knows_them(tx: Transaction) -> None:
    cluster = Cluster(id=id_of("cluster"), feature_level=(KINDS,))
    tx.create(cluster)
    tx.update(replace(cluster, spec=ClusterSpec(indices=INDICES)))
    tx.create(Node(id=id_of("node"), spec=NodeSpec(indices=INDICES)))


def create_every_kind(tx: Transaction) -> None:
    for object in (NETWORK, SECRET, CONFIG, VOLUME, RAW, EXTENSION, RESOURCE):
        tx.create(object)


def refer_to_them(tx: Transaction) -> None:
    tx.get(Secret, SECRET.id)
    tx.find(Config, ByName("SITE.CONF"))
    for object in (SERVICE, TASK, ATTACHMENT):
        tx.create(object)


def claim_what_was_found(tx: Transaction) -> None:
    tx.find(Service, ByReferencedSecret(SECRET.id))
    tx.find(Task, ByReferencedConfig("nobody's"))
    tx.find(Task, ByVolumeAttachment(VOLUME.id))
    tx.find(Resource, ByKind("Certificate"))
    tx.find(Network, ByCustom("team", "front"))
    tx.update(replace(RESOURCE, payload=b"renewed"))


def remove_some_of_them(tx: Transaction) -> None:
    tx.remove(Table.VOLUME, RAW.id)
    tx.remove(Table.TASK, ATTACHMENT.id)
    tx.create(replace(RAW, id=id_of("raw2")))


STEPS: Final[dict[str, Callable[[Transaction], object]]] = {
    "kinds-create-the-swarm": create_a_swarm_that_knows_them,
    "kinds-create-every-kind": create_every_kind,
    "kinds-refer-to-them": refer_to_them,
    "kinds-claim-what-was-found": claim_what_was_found,
    "kinds-remove-some": remove_some_of_them,
}
