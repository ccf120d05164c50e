"""The worker: session, assignments, a machine per task, reports. Must not know Raft, state or the manager."""
