"""What was agreed: commands, apply -> events, indexes, snapshots, digests. Must not know the clock, dice, or who proposes."""
