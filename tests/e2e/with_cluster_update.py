"""`swarmd` whose managers serve `cluster.update` at least as far as autolock goes, where the control API does not yet.

Run as `python -m tests.e2e.with_cluster_update ANY THREE WORDS ARGUMENTS...`: it stands before a daemon's own command.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from swarmd.__main__ import main
from swarmd.manager.parts import Parts
from swarmd.model import UnlockKey
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, Router
from swarmd.wire.cluster import ClusterView, UpdateCluster
from swarmd.wire.methods import CLUSTER_UPDATE


def served(serve: Any) -> Any:
    """`Parts.serve`, and the method if it was left out."""

    def with_update(parts: Parts, router: Router, **rest: Any) -> None:
        serve(parts, router, **rest)

        async def update(call: Call, request: UpdateCluster) -> ClusterView:
            def change(tx: Transaction) -> Any:
                cluster = tx.cluster()
                assert cluster is not None
                known, is_on = cluster.unlock_key, request.spec.encryption.auto_lock_managers
                if not is_on:
                    key = UnlockKey(version=known.version + 1) if known.key else known
                elif known.key and not request.rotate_unlock_key:
                    key = known
                else:
                    key = UnlockKey(version=known.version + 1, key=os.urandom(32))
                changed = msgspec.structs.replace(cluster, spec=request.spec, unlock_key=key)
                tx.update(changed)
                return changed

            changed, _ = await parts.store.update(change, actor="test")
            blank = msgspec.structs.replace(changed, unlock_key=UnlockKey())
            return ClusterView(cluster=msgspec.structs.replace(blank, root_ca=type(blank.root_ca)()))

        try:
            router.add(CLUSTER_UPDATE, parts.proxy.wrap(CLUSTER_UPDATE, update))
        except ValueError:
            return  # the real one is served

    return with_update


if __name__ == "__main__":
    Parts.serve = served(Parts.serve)  # type: ignore[method-assign]
    main(sys.argv[4:])
