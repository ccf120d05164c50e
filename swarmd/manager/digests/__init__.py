"""Whether the members' states are still one: what each notes, what the leader makes of it. See DESIGN.md."""
