"""The control API of one manager: every control method and what serves it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from swarmd.manager.control_api.access import Access, Admit, Recall, admit_all
from swarmd.manager.control_api.admission import AdmissionHandlers
from swarmd.manager.control_api.cluster import ClusterHandlers
from swarmd.manager.control_api.configs import ConfigHandlers
from swarmd.manager.control_api.networks import NetworkHandlers
from swarmd.manager.control_api.nodes import NodeHandlers
from swarmd.manager.control_api.rebalance import RebalanceHandlers
from swarmd.manager.control_api.secrets import SecretHandlers
from swarmd.manager.control_api.services import ServiceHandlers
from swarmd.manager.control_api.status import StatusHandler
from swarmd.manager.control_api.tasks import TaskHandlers
from swarmd.manager.control_api.views import LocalNode, RaftView
from swarmd.manager.control_api.watch import WatchHandler
from swarmd.manager.control_api.why import WhyHandlers
from swarmd.manager.external_ca import ExternalSigners
from swarmd.manager.proposer import Store
from swarmd.transport.connection import StreamHandler, UnaryHandler
from swarmd.wire.methods import Method


class ControlApi:
    """Serves `node.*`, `service.*`, `task.*`, `secret.*`, `config.*`, `network.*`, `cluster.*`, `status` and `watch` on
    any manager.

    It lives as long as the manager, not as long as a reign: a write in flight is answered by whoever learns its fate.
    Mutations reach it on the leader only (followers pass them on before).

    Args:
        store: the state, and the way to change it.
        membership: Raft's live facts, asked anew for each call.
        local: this node, for `status`.
        linearize: returns once reads here are as new as when it was called (ReadIndex). Raises `Unavailable`.
        recall: what the state remembers of an idempotency key (`State.known_result`).
        admit: raises if a change may not be made now; a request that took effect before is answered without.
        now: epoch seconds.
        rng: makes tokens and unlock keys.
        signers: the external CAs.
    """

    def __init__(
        self,
        store: Store,
        *,
        membership: Callable[[], RaftView],
        local: LocalNode,
        linearize: Callable[[], Awaitable[None]],
        recall: Recall,
        admit: Admit = admit_all,
        now: Callable[[], float],
        rng: random.Random,
        signers: ExternalSigners,
    ) -> None:
        access = Access(store, linearize=linearize, recall=recall, admit=admit)
        self._parts = (
            NodeHandlers(access, membership=membership, now=now),
            AdmissionHandlers(access, membership=membership, now=now),
            ServiceHandlers(access),
            TaskHandlers(access),
            SecretHandlers(access),
            ConfigHandlers(access),
            NetworkHandlers(access),
            WhyHandlers(access),
            RebalanceHandlers(access),
            ClusterHandlers(access, signers=signers, now=now, rng=rng),
            StatusHandler(access, membership=membership, local=local),
        )
        self._watch = WatchHandler(access, node_id=lambda: local.node_id)

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler | StreamHandler]:
        """Each method with its handler, ready for `Router.add`."""
        handlers: dict[Method[Any, Any], UnaryHandler | StreamHandler] = {**self._watch.handlers()}
        for part in self._parts:
            handlers |= part.handlers()
        return handlers
