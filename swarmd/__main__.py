"""Flags, logging, signals, exit status. No behaviour."""


def main() -> None:
    """Run the daemon."""
    raise SystemExit("swarmd: not built yet")
