"""Where each task goes: node masks, spread, reservations, failures last. Pure; explains what it cannot place.

Must not know the store, the clock, or who writes the decisions down.
"""

from swarmd.scheduler.profile import required_features
from swarmd.scheduler.scheduler import Placement, Scheduler, Unplaced

__all__ = ["Placement", "Scheduler", "Unplaced", "required_features"]
