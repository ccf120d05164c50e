"""The leader's loops: Trio shells that feed dirty ids to the pure layers and write what those decide.

Each lives for one reign, in its nursery, and is made anew for the next. Must not decide anything itself, nor know Raft.
"""

from swarmd.manager.loops.allocator import AllocatorLoop
from swarmd.manager.loops.enforcer import EnforcerLoop
from swarmd.manager.loops.lost_nodes import LostNodesLoop
from swarmd.manager.loops.orchestrator import OrchestratorLoop
from swarmd.manager.loops.payload_rotation import PayloadRotationLoop
from swarmd.manager.loops.reaper import ReaperLoop
from swarmd.manager.loops.role_manager import Membership, RoleManagerLoop
from swarmd.manager.loops.root_rotation import RootRotationLoop
from swarmd.manager.loops.scheduler import SchedulerLoop
from swarmd.manager.loops.signer import SignerLoop

__all__ = [
    "AllocatorLoop",
    "EnforcerLoop",
    "LostNodesLoop",
    "Membership",
    "OrchestratorLoop",
    "PayloadRotationLoop",
    "ReaperLoop",
    "RoleManagerLoop",
    "RootRotationLoop",
    "SchedulerLoop",
    "SignerLoop",
]
