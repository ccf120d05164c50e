"""What `swarmctl` asks of a manager: reads, guarded writes, redacted replies.

Must not know who leads, how a call arrived, or how a change is proposed. `ControlApi` is the way in.
"""

from swarmd.manager.control_api.api import ControlApi
from swarmd.manager.control_api.views import DigestDetail, LocalNode, MemberDetail, MemberView, RaftDetail, RaftView

__all__ = ["ControlApi", "DigestDetail", "LocalNode", "MemberDetail", "MemberView", "RaftDetail", "RaftView"]
