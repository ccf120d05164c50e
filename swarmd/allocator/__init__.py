"""Which address and port: for now the gate NEW -> PENDING, which every task passes. Pure.

Must not know where a task will run.
"""

from swarmd.allocator.gate import admit, is_new

__all__ = ["admit", "is_new"]
