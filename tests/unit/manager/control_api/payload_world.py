"""A control API whose swarm knows secrets and configs."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from swarmd.model import (
    Cluster,
    Config,
    ConfigReference,
    ConfigSpec,
    ContainerSpec,
    FileTarget,
    Secret,
    SecretReference,
    SecretSpec,
    Service,
    ServiceSpec,
    TaskSpec,
)
from swarmd.state.features import KINDS, SECURITY
from swarmd.wire.methods import CONFIG_CREATE, SECRET_CREATE
from swarmd.wire.payloads import CreateConfig, CreateSecret
from tests.unit.manager.control_api.api_world import SWARM, World

PAYLOAD = b"correct horse battery staple"


class PayloadWorld(World):
    """`level` is what every manager has announced."""

    def __init__(self, level: tuple[str, ...] = (KINDS, SECURITY)) -> None:
        super().__init__()
        self.store.create(Cluster(id=SWARM, feature_level=level))

    @property
    def cluster(self) -> Cluster:
        cluster = self.store.state.cluster()
        assert cluster is not None
        return cluster

    def secret(self, id: str) -> Secret:
        """As it is stored."""
        secret = self.store.state.get(Secret, id)
        assert secret is not None
        return secret

    def config(self, id: str) -> Config:
        config = self.store.state.get(Config, id)
        assert config is not None
        return config

    async def add_secret(
        self, name: str = "horse", data: bytes = PAYLOAD, *, key: bytes = b"", **fields: Any
    ) -> Secret:
        spec = SecretSpec(name=name, data=data, **fields)
        return (await self.ask(SECRET_CREATE, CreateSecret(spec=spec), key=key)).secret

    async def add_config(self, name: str = "site", data: bytes = PAYLOAD, *, key: bytes = b"", **fields: Any) -> Config:
        spec = ConfigSpec(name=name, data=data, **fields)
        return (await self.ask(CONFIG_CREATE, CreateConfig(spec=spec), key=key)).config

    def use(self, payload: Secret | Config, name: str = "web") -> Service:
        """A service that refers to it, as one will be stored once tasks are given payloads."""
        service = Service(id=f"service-{name}", spec=ServiceSpec(name=name, task=template(payload)))
        self.store.create(service)
        return service

    def stop_using(self, service: Service) -> None:
        """The same without references."""
        stored = self.store.state.service(service.id)
        assert stored is not None
        task = TaskSpec(container=ContainerSpec(image="app:1"))
        self.store.write(lambda tx: tx.update(replace(stored, spec=replace(stored.spec, task=task))))


def template(*payloads: Secret | Config, file: str = "") -> TaskSpec:
    """What refers to all of these, each in a file of its own name unless `file` says otherwise."""
    secrets = [p for p in payloads if isinstance(p, Secret)]
    configs = [p for p in payloads if isinstance(p, Config)]
    return TaskSpec(
        container=ContainerSpec(
            image="app:1",
            secrets=tuple(
                SecretReference(secret_id=s.id, secret_name=s.spec.name, file=FileTarget(name=file or s.spec.name))
                for s in secrets
            ),
            configs=tuple(
                ConfigReference(config_id=c.id, config_name=c.spec.name, file=FileTarget(name=file or c.spec.name))
                for c in configs
            ),
        )
    )
