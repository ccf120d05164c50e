"""Which ports a service gets, and the gate NEW -> PENDING, which every task passes. Pure.

Must not know where a task will run.
"""

from swarmd.allocator.gate import Admitted, admit, is_new
from swarmd.allocator.ports import is_settled, with_ports

__all__ = ["Admitted", "admit", "is_new", "is_settled", "with_ports"]
