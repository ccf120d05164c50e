"""The orchestrator daemon. Read the packages lowest first:

errors, model (what exists), raft (how managers agree), pki (who may speak), wire (what nodes say),
state (what was agreed), orchestrator (which tasks should exist), scheduler (where each task goes),
allocator (which address and port): plain synchronous code, with time, dice and I/O passed in.

storage (where it is kept), transport (how it travels), executor (how tasks run), agent (the worker),
manager (the manager), node (one node's life), __main__ (flags and signals): the Trio shells around it.
"""

__version__ = "0.1.0"
