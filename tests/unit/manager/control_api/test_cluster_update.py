"""`cluster.update` and `cluster.get`: settings, tokens, the unlock key and the root, and what never leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Conflict, FailedPrecondition, Invalid, NotFound, Unavailable
from swarmd.manager.control_api.cluster_update import UNLOCK_KEY_BYTES
from swarmd.manager.control_api.redact import cluster as redacted
from swarmd.model import (
    CAConfig,
    Cluster,
    ClusterSpec,
    EncryptionConfig,
    ExternalCA,
    JoinTokens,
    OrchestrationConfig,
    PayloadKey,
    RootCA,
    RootRotation,
    UnlockKey,
)
from swarmd.pki import Authority, NewRoot, check_cross_signed, cross_sign, fingerprint, root_digest
from swarmd.state.features import KINDS, SECURITY
from swarmd.wire import codec
from swarmd.wire.cluster import ClusterView, GetCluster, UpdateCluster
from swarmd.wire.methods import CLUSTER_GET, CLUSTER_UPDATE
from tests.unit.manager.control_api.api_world import SWARM, World
from tests.unit.manager.local_store import EPOCH
from tests.unit.pki.made_roots import NOW, key_of, root_of

AUTHORITY = Authority(root_of(name="present"), key_of())
NEW = NewRoot(certificate=root_of("p384", name="new"), key=key_of("p384"))
URL = "https://ca.example/sign"


class FakeSigners:
    """Which roots are reachable, and what is signed with their key, are the test's to set."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.probed = 0
        self.crossed = 0
        self.failure: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    async def reachable(self, root: RootCA, signers: tuple[ExternalCA, ...]) -> frozenset[str]:
        self.probed += 1
        listed = {fingerprint(signer.ca_certificate or root.certificate) for signer in signers}
        return frozenset(listed & self.up)

    async def cross_sign(self, root: RootCA, signers: tuple[ExternalCA, ...], new: NewRoot, *, now: float) -> bytes:
        self.crossed += 1
        if self.failure is not None:
            raise self.failure
        self.meanwhile()
        return AUTHORITY.cross_sign(new.certificate)


class ClusterWorld(World):
    """A swarm of the newest feature level with a real root."""

    def __init__(self, level: tuple[str, ...] = ("base.1", "join.1", KINDS, SECURITY)) -> None:
        super().__init__()
        self.signers = FakeSigners()
        handlers = self.handlers[CLUSTER_UPDATE].__self__
        handlers._signers = self.signers
        handlers._now = lambda: NOW
        digest = root_digest(AUTHORITY.certificate)
        self.store.create(
            Cluster(
                id=SWARM,
                feature_level=level,
                root_ca=RootCA(
                    certificate=AUTHORITY.certificate,
                    key=AUTHORITY.key,
                    digest=digest,
                    join_tokens=JoinTokens(worker="SWMTKN-1-w", manager="SWMTKN-1-m"),
                ),
            )
        )

    @property
    def cluster(self) -> Cluster:
        cluster = self.store.state.cluster()
        assert cluster is not None
        return cluster

    def change(self, **fields: Any) -> None:
        self.store.write(lambda tx: tx.update(replace(self.cluster, **fields)))

    def become_external(self) -> None:
        """Its root's key is an external CA's, which answers."""
        spec = replace(self.cluster.spec, ca=CAConfig(external_cas=(ExternalCA(url=URL),)))
        self.change(root_ca=replace(self.cluster.root_ca, key=b""), spec=spec)
        self.signers.up = {fingerprint(AUTHORITY.certificate)}

    async def update(self, *, ca: dict[str, Any] | None = None, key: bytes = b"", **fields: Any) -> ClusterView:
        """Get, modify, update; `ca` are changed CA settings, the rest is the request's or the spec's."""
        shown = (await self.ask(CLUSTER_GET, GetCluster())).cluster
        spec = replace(shown.spec, ca=replace(shown.spec.ca, **(ca or {})))
        of_spec = {name: fields.pop(name) for name in list(fields) if name in ClusterSpec.__struct_fields__}
        request = UpdateCluster(
            **({"id": SWARM, "spec": replace(spec, **of_spec), "version": shown.meta.version} | fields)
        )
        return await self.ask(CLUSTER_UPDATE, request, key=key)


@pytest.fixture
def world(autojump_clock: MockClock) -> ClusterWorld:
    return ClusterWorld()


def wanted(root: NewRoot, **fields: Any) -> dict[str, Any]:
    return {"signing_ca_certificate": root.certificate, "signing_ca_key": root.key} | fields


# -- settings ------------------------------------------------------------------------------------------------------


async def test_settings_are_replaced_and_everything_else_stays(world: ClusterWorld) -> None:
    before = world.cluster
    view = await world.update(
        orchestration=OrchestrationConfig(task_history_retention_limit=9), ca={"node_cert_expiry_s": 7200.0}
    )
    after = world.cluster
    assert after.spec.orchestration.task_history_retention_limit == 9
    assert after.spec.ca.node_cert_expiry_s == 7200.0
    assert (after.root_ca, after.unlock_key) == (before.root_ca, before.unlock_key)
    assert view.cluster == redacted(after)


async def test_an_update_that_changes_nothing_writes_nothing(world: ClusterWorld) -> None:
    index = world.store.state.index
    await world.update()
    assert world.store.state.index == index


async def test_what_is_refused(world: ClusterWorld) -> None:
    for fields, error in (
        ({"id": ""}, Invalid),
        ({"id": "x" * 25}, NotFound),
        ({"version": 99}, Conflict),
        ({"labels": {"": "x"}}, Invalid),
        ({"ca": {"node_cert_expiry_s": 60.0}}, Invalid),
        ({"ca": {"external_cas": (ExternalCA(url=URL, ca_certificate=b"rubbish"),)}}, Invalid),
        ({"ca": {"signing_ca_key": NEW.key}}, Invalid),
        ({"ca": {"signing_ca_certificate": b"rubbish"}}, Invalid),
    ):
        before = world.cluster
        with pytest.raises(error):
            await world.update(**fields)  # type: ignore[arg-type]
        assert world.cluster == before


async def test_a_version_of_zero_means_whatever_is_there(world: ClusterWorld) -> None:
    await world.update(version=0, labels={"a": "b"})
    assert world.cluster.spec.labels == {"a": "b"}


async def test_before_there_is_a_cluster_it_is_unavailable(autojump_clock: MockClock) -> None:
    with pytest.raises(Unavailable):
        await World().ask(CLUSTER_UPDATE, UpdateCluster(id=SWARM, spec=ClusterSpec()))


# -- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("worker", "manager"), [(True, False), (False, True), (True, True)])
async def test_each_token_is_rotated_by_itself(world: ClusterWorld, *, worker: bool, manager: bool) -> None:
    before = world.cluster.root_ca
    view = await world.update(rotate_worker_token=worker, rotate_manager_token=manager)
    tokens = world.cluster.root_ca.join_tokens
    assert (tokens.worker != before.join_tokens.worker, tokens.manager != before.join_tokens.manager) == (
        worker,
        manager,
    )
    for token, is_new in ((tokens.worker, worker), (tokens.manager, manager)):
        assert not is_new or token.startswith(f"SWMTKN-1-{before.digest}-")
    assert view.cluster.root_ca.join_tokens == tokens


async def test_a_token_that_is_rotated_while_the_root_is_pins_the_present_root(world: ClusterWorld) -> None:
    await world.update(ca={"force_rotate": 1}, rotate_worker_token=True)
    assert world.cluster.root_ca.rotation is not None
    assert root_digest(AUTHORITY.certificate) in world.cluster.root_ca.join_tokens.worker


async def test_tokens_work_in_a_swarm_of_an_older_level_and_the_new_fields_do_not(autojump_clock: MockClock) -> None:
    old = ClusterWorld(level=("base.1", "join.1"))
    await old.update(rotate_worker_token=True, ca={"node_cert_expiry_s": 7200.0})
    before = old.cluster
    for fields in ({"ca": {"force_rotate": 1}}, {"encryption": EncryptionConfig(auto_lock_managers=True)}):
        with pytest.raises(FailedPrecondition, match="not every manager knows"):
            await old.update(**fields)  # type: ignore[arg-type]
    assert old.cluster == before


# -- the unlock key ------------------------------------------------------------------------------------------------

ON, OFF = EncryptionConfig(auto_lock_managers=True), EncryptionConfig()


async def test_the_unlock_key_follows_the_setting_and_its_version_counts_up(world: ClusterWorld) -> None:
    await world.update(encryption=ON)
    first = world.cluster.unlock_key
    assert (first.version, len(first.key)) == (1, UNLOCK_KEY_BYTES) == (1, 32)
    await world.update(labels={"a": "b"})
    assert world.cluster.unlock_key == first
    await world.update(rotate_unlock_key=True)
    second = world.cluster.unlock_key
    assert (second.version, len(second.key)) == (2, 32)
    assert second.key != first.key
    await world.update(encryption=OFF)
    assert world.cluster.unlock_key == UnlockKey(version=3)
    await world.update(rotate_unlock_key=True)  # while it is off there is nothing to rotate
    assert world.cluster.unlock_key == UnlockKey(version=3)
    await world.update(encryption=ON, rotate_unlock_key=True)
    third = world.cluster.unlock_key
    assert (third.version, len(third.key)) == (4, 32)
    await world.update(encryption=OFF, rotate_unlock_key=True)
    assert world.cluster.unlock_key == UnlockKey(version=5)


async def test_tokens_and_unlock_key_together(world: ClusterWorld) -> None:
    tokens = world.cluster.root_ca.join_tokens
    await world.update(encryption=ON, rotate_unlock_key=True, rotate_worker_token=True, rotate_manager_token=True)
    assert world.cluster.unlock_key.version == 1
    assert world.cluster.root_ca.join_tokens.worker != tokens.worker
    assert world.cluster.root_ca.join_tokens.manager != tokens.manager


# -- the root ------------------------------------------------------------------------------------------------------


async def test_a_higher_counter_begins_a_rotation_to_a_root_of_the_swarms_own(world: ClusterWorld) -> None:
    view = await world.update(ca={"force_rotate": 1})
    root = world.cluster.root_ca
    assert root.rotation is not None
    assert (root.certificate, root.last_forced_rotation) == (AUTHORITY.certificate, 1)
    Authority(root.rotation.certificate, root.rotation.key)
    check_cross_signed(root.rotation.cross_signed, new=root.rotation.certificate, by=AUTHORITY.certificate, now=NOW)
    assert view.rotation is not None
    assert view.rotation.fingerprint == fingerprint(root.rotation.certificate)
    again = await world.update(labels={"a": "b"})  # get, modify, update: the same rotation goes on
    assert world.cluster.root_ca == root
    assert again.rotation is not None
    assert world.signers.probed == 1


async def test_a_root_that_is_brought_is_not_stored_twice(world: ClusterWorld) -> None:
    await world.update(ca=wanted(NEW))
    rotation = world.cluster.root_ca.rotation
    assert rotation is not None
    assert (rotation.certificate, rotation.key) == (NEW.certificate, NEW.key)
    assert world.cluster.spec.ca == CAConfig()


async def test_get_modify_update_keeps_a_rotation_and_wanting_the_present_root_ends_it(world: ClusterWorld) -> None:
    await world.update(ca=wanted(NEW))
    under_way = world.cluster.root_ca
    await world.update(orchestration=OrchestrationConfig(task_history_retention_limit=1))
    assert world.cluster.root_ca == under_way
    await world.update(ca=wanted(NewRoot(certificate=AUTHORITY.certificate, key=AUTHORITY.key)))
    assert world.cluster.root_ca.rotation is None


async def test_a_spec_from_scratch_does_not_take_the_counter_back_and_begins_nothing(world: ClusterWorld) -> None:
    await world.update(ca={"force_rotate": 5})
    root = world.cluster.root_ca
    await world.ask(CLUSTER_UPDATE, UpdateCluster(id=SWARM, spec=ClusterSpec()))
    assert world.cluster.root_ca == root
    assert world.cluster.spec.ca.force_rotate == 5


async def test_a_retry_of_what_took_effect_is_answered_and_begins_nothing(world: ClusterWorld) -> None:
    cluster = world.cluster
    request = UpdateCluster(id=SWARM, version=cluster.meta.version, spec=ClusterSpec(ca=CAConfig(force_rotate=1)))
    await world.ask(CLUSTER_UPDATE, request, key=b"k" * 16, seen_index=world.store.state.index)
    root, index = world.cluster.root_ca, world.store.state.index
    view = await world.ask(CLUSTER_UPDATE, request, key=b"k" * 16, seen_index=index)
    assert (world.cluster.root_ca, world.store.state.index) == (root, index)
    assert view.rotation is not None


# -- external CAs --------------------------------------------------------------------------------------------------


async def test_a_root_without_a_key_needs_an_external_ca_that_answers(world: ClusterWorld) -> None:
    external = ExternalCA(url=URL, ca_certificate=NEW.certificate)
    fields = wanted(NewRoot(certificate=NEW.certificate), external_cas=(external,))
    with pytest.raises(Invalid, match="no key here"):
        await world.update(ca=fields)
    world.signers.up = {fingerprint(NEW.certificate)}
    await world.update(ca=fields)
    rotation = world.cluster.root_ca.rotation
    assert rotation is not None
    assert (rotation.certificate, rotation.key) == (NEW.certificate, b"")
    assert world.cluster.spec.ca.external_cas == (external,)


async def test_an_external_cas_root_is_left_through_its_own_cross_signature(world: ClusterWorld) -> None:
    world.become_external()
    await world.update(ca=wanted(NEW))
    root = world.cluster.root_ca
    assert root.rotation is not None
    check_cross_signed(root.rotation.cross_signed, new=NEW.certificate, by=AUTHORITY.certificate, now=NOW)
    assert world.signers.crossed == 1
    # What was listed for "the present root" goes on meaning this one.
    assert world.cluster.spec.ca.external_cas == (ExternalCA(url=URL, ca_certificate=AUTHORITY.certificate),)


async def test_forced_from_an_external_ca_the_root_that_was_cross_signed_is_the_one_that_is_used(
    world: ClusterWorld,
) -> None:
    world.become_external()
    await world.update(ca={"force_rotate": 1})
    rotation = world.cluster.root_ca.rotation
    assert rotation is not None
    Authority(rotation.certificate, rotation.key)
    check_cross_signed(rotation.cross_signed, new=rotation.certificate, by=AUTHORITY.certificate, now=NOW)


async def test_what_the_external_ca_says_to_a_cross_signature_reaches_the_operator(world: ClusterWorld) -> None:
    world.become_external()
    before = world.cluster
    world.signers.failure = FailedPrecondition("the external CA refused: no")
    with pytest.raises(FailedPrecondition, match="refused: no"):
        await world.update(ca=wanted(NEW))
    assert world.cluster == before


async def test_a_root_that_changed_while_the_external_ca_was_asked_is_a_conflict(world: ClusterWorld) -> None:
    world.become_external()
    other = Authority.create(EPOCH)

    def swap() -> None:
        world.change(root_ca=replace(world.cluster.root_ca, certificate=other.certificate))
        world.signers.up.add(fingerprint(other.certificate))

    world.signers.meanwhile = swap
    with pytest.raises((Conflict, Invalid)):
        await world.update(ca=wanted(NEW), version=0)
    assert world.cluster.root_ca.rotation is None


async def test_while_the_external_ca_is_down_other_settings_can_be_changed(world: ClusterWorld) -> None:
    world.become_external()
    world.signers.up = set()
    await world.update(labels={"a": "b"}, ca={"node_cert_expiry_s": 7200.0})
    assert world.signers.probed == 0
    with pytest.raises(Invalid, match="the present root has no key"):
        await world.update(ca={"external_cas": ()})


async def test_options_that_are_not_shown_are_kept(world: ClusterWorld) -> None:
    listed = ExternalCA(url=URL, options={"token": "hush"})
    await world.update(ca={"external_cas": (listed,)})
    view = await world.update(labels={"a": "b"})
    assert world.cluster.spec.ca.external_cas == (listed,)
    assert view.cluster.spec.ca.external_cas == (ExternalCA(url=URL),)
    changed = ExternalCA(url=URL, options={"token": "other"})
    await world.update(ca={"external_cas": (changed,)})
    assert world.cluster.spec.ca.external_cas == (changed,)


# -- what is shown -------------------------------------------------------------------------------------------------


async def test_the_view_tells_the_root_and_whether_its_key_is_here(world: ClusterWorld) -> None:
    view = await world.ask(CLUSTER_GET, GetCluster())
    assert view.root.fingerprint == fingerprint(AUTHORITY.certificate)
    assert view.root.expires_at > NOW
    assert view.root.has_key
    assert view.rotation is None
    world.become_external()
    assert not (await world.ask(CLUSTER_GET, GetCluster())).root.has_key


async def test_no_key_leaves_while_a_rotation_is_under_way(world: ClusterWorld) -> None:
    secrets = [b"U" * 32, b"P" * 32, b"hush", AUTHORITY.key, NEW.key]
    crossed = cross_sign(world.cluster.root_ca, NEW)
    rotation = RootRotation(certificate=NEW.certificate, key=NEW.key, cross_signed=crossed)
    ca = CAConfig(
        signing_ca_certificate=b"hush" + NEW.certificate,
        signing_ca_key=NEW.key,
        external_cas=(ExternalCA(url=URL, options={"token": "hush"}),),
    )
    world.change(
        root_ca=replace(world.cluster.root_ca, rotation=rotation),
        spec=replace(world.cluster.spec, ca=ca),
        unlock_key=UnlockKey(version=4, key=secrets[0]),
        payload_keys=(PayloadKey(id=1, key=secrets[1]),),
    )
    view = await world.ask(CLUSTER_GET, GetCluster())
    sent = codec.encode(view)
    assert not [secret for secret in secrets if secret in sent]
    assert not [key for key in (AUTHORITY.key, NEW.key) if key.splitlines()[1] in sent]
    assert view.cluster.unlock_key.version == 4
    assert view.cluster.root_ca.rotation == RootRotation(certificate=NEW.certificate, cross_signed=crossed)
    assert world.cluster.root_ca.rotation == rotation
