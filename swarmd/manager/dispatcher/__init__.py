"""Sessions, heartbeats, assignments and status reports of every node; runs on the leader only."""
