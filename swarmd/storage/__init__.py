"""Where it is kept: the log, snapshots, the agent's tasks, sealing. Alone imports apsw."""
