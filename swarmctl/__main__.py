"""The typer app; maps the error tree to exit codes."""


def main() -> None:
    """Run a command."""
    raise SystemExit("swarmctl: not built yet")
