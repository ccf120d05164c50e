"""Which tasks should exist: replicated services, updates, restarts, reaping, node roles' tasks. Pure: a transaction and `now` in,
changes and the next wake-up out."""
