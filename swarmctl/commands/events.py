"""`events`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from swarmctl.event_filters import parse_filters
from swarmctl.follow import Follower, Transaction
from swarmctl.invocation import Invocation, Output
from swarmctl.render.events import event_document, event_line, event_name
from swarmctl.render.plain import to_json_line, to_yaml
from swarmctl.values import parse_integer
from swarmd.errors import Gone, SwarmError
from swarmd.wire.watch import WatchedEvent, WatchRequest


def follow_events(call: Invocation, since: str | None, filters: Sequence[str], *, old: bool) -> None:
    """Print what happens until interrupted. Raises `Gone` where events are lost, saying up to where none is."""
    after = None if since is None else parse_integer(since, "--since")
    with call.client() as client:
        request = WatchRequest(entries=parse_filters(filters, client), after=after, include_old=old)
        follower = Follower(client, call.environment, request, call.note)
        try:
            for transaction in follower.transactions():
                call.block("".join(_lines(call, transaction)))
                call.environment.out.flush()
        except SwarmError as error:
            if follower.position is not None and not isinstance(error, Gone):
                error.hint = f"swarmctl events --since {follower.position} goes on behind what was shown"
            raise


def _lines(call: Invocation, transaction: Transaction) -> Iterator[str]:
    for remaining, event in zip(range(len(transaction.events) - 1, -1, -1), transaction.events, strict=True):
        yield _shown(call, transaction, event, remaining)


def _shown(call: Invocation, transaction: Transaction, event: WatchedEvent, remaining: int) -> str:
    if call.quiet:
        return f"{event.object['id']}\n"
    match call.output:
        case Output.JSON:
            return to_json_line(event_document(transaction, event, remaining))
        case Output.YAML:
            return "---\n" + to_yaml(event_document(transaction, event, remaining))
        case Output.NAME:
            return f"{event_name(event)}\n"
        case Output.TABLE | Output.WIDE:
            return event_line(transaction, event, wide=call.output is Output.WIDE) + "\n"
