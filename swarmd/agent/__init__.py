"""The worker: session, assignments, a machine per task, reports. Must not know Raft, state or the manager."""

from swarmd.agent.agent import Agent
from swarmd.agent.link import DispatcherLink, LinkProvider
from swarmd.agent.network_link import NetworkLink

__all__ = ["Agent", "DispatcherLink", "LinkProvider", "NetworkLink"]
