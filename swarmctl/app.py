"""The command tree: nouns are imported when called, and what is planned but missing says so."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.main import get_command

from swarmctl.invocation import Invocation
from swarmctl.verbs import Group, group, not_built, verb

NOUNS: Final = {
    "cluster": "cluster",
    "config": "config",
    "network": "network",
    "node": "node",
    "raft": "raft",
    "secret": "secret",
    "service": "service",
    "svc": "service",
    "task": "task",
}
"""Noun or alias -> its module in `swarmctl.commands`."""
PLANNED: Final = frozenset(
    {"access", "apply", "backup", "ca", "context", "dashboard", "deploy", "diff", "doctor", "edit"}
    | {"logs", "plan", "restore", "stack", "swarm", "top", "volume"}
)


class Nouns(Group):
    """The root. It knows the names of all nouns and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *NOUNS.values()})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in NOUNS:
            return get_command(import_module(f"swarmctl.commands.{NOUNS[cmd_name]}").app)
        if cmd_name in PLANNED:
            raise not_built(cmd_name)
        return super().get_command(ctx, cmd_name)


def root() -> Any:
    """The whole tree, as the command to run."""
    app = group("swarmctl", "Talk to a swarm.", Nouns)

    @verb(app, "status")
    def status(call: Invocation) -> None:
        """What the daemon behind the socket says of itself."""
        from swarmctl.commands.status import show_status

        show_status(call)

    @verb(app, "events")
    def events(
        call: Invocation,
        *,
        since: Annotated[
            str | None, typer.Option("--since", metavar="VERSION", help="Begin with what came after this version.")
        ] = None,
        filter: Annotated[
            list[str] | None,
            typer.Option(
                *("--filter", "-f"),
                metavar="KEY=VALUE",
                help="Only what fits: kind, action, id, name (or beginning*), service, node, slot, desired-state, "
                "hostname, role, membership, state. The same key again: or.",
            ),
        ] = None,
        old: Annotated[bool, typer.Option("--old", help="Also show what objects were before.")] = False,
    ) -> None:
        """Print what happens, as it happens, across lost connections; one JSON object a line with -o json."""
        from swarmctl.commands.events import follow_events

        follow_events(call, since, filter or (), old=old)

    @verb(app, "audit")
    def audit(
        call: Invocation,
        *,
        since: Annotated[
            str | None,
            typer.Option(
                "--since", metavar="DURATION|TIME", help="From so long ago, or from 2026-01-31T12:00:00Z, on."
            ),
        ] = None,
        until: Annotated[str | None, typer.Option("--until", metavar="DURATION|TIME", help="Up to then.")] = None,
        limit: Annotated[
            str | None, typer.Option("--limit", "-l", metavar="N", help="The newest N (default 100; 0: all).")
        ] = None,
        actor: Annotated[str | None, typer.Option("--actor", metavar="TEXT", help="Whose actor contains it.")] = None,
        kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="About this kind of object.")] = None,
        verify: Annotated[
            bool, typer.Option("--verify", help="Check that no record was changed, taken out or put in.")
        ] = False,
    ) -> None:
        """Who changed what and when, as this manager's own file tells; what it refused has index 0. Needs no leader."""
        from swarmctl.commands.audit import AuditFilter, show_audit, verify_audit

        if verify:
            verify_audit(call)
        else:
            show_audit(call, AuditFilter.parse(call, since, until, limit, actor, kind))

    @verb(app, "version")
    def version(call: Invocation) -> None:
        """The version of this program."""
        from swarmd import __version__

        call.line(f"swarmctl swarmd {__version__}")

    return get_command(app)
