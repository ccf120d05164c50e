"""Where each task goes: node masks, spread, reservations, failures last. Pure; explains what it cannot place."""
