"""`secret create`, `ls`, `inspect`, `update`, `rm`."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.invocation import Invocation
from swarmctl.kinds import SECRET
from swarmctl.payload_flags import Filters, LabelEdits, Source, parse_list_filters, read_payload
from swarmctl.render.payloads import secret_list, secret_summary
from swarmctl.resolve import find_secret
from swarmctl.show import show_changed, show_list, show_one
from swarmctl.values import parse_integer
from swarmctl.verbs import group, verb
from swarmd.errors import Conflict, Invalid
from swarmd.model import Driver, SecretSpec
from swarmd.wire.control import GetObject, RemoveObject
from swarmd.wire.methods import SECRET_CREATE, SECRET_GET, SECRET_LIST, SECRET_REMOVE, SECRET_UPDATE
from swarmd.wire.payloads import CreateSecret, SecretView, UpdateSecret

app = group("secret", "Payloads that tasks are given as files and nobody is shown.")

EDIT_TRIES_MAX: Final = 3

SecretArgument = Annotated[str, typer.Argument(help="Its name, id or id prefix.")]


@verb(app, "create")
def create(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, - _ and .")],
    source: Source,
    path: Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="The payload; - is standard input.")] = None,
    *,
    driver: Annotated[str | None, typer.Option("--driver", "-d", metavar="NAME", help="Not built yet.")] = None,
) -> None:
    """Create a secret from a file or standard input: 1 to 511,999 bytes, taken as they are."""
    data = b"" if driver else read_payload(call.environment, "secret", name, path, source.file)
    spec = SecretSpec(
        name=name,
        labels=source.labels,
        data=data,
        templating=Driver(name=source.template_driver) if source.template_driver else None,
        driver=Driver(name=driver) if driver else None,
    )
    with call.client() as client:
        show_changed(call, SECRET, client.change(SECRET_CREATE, CreateSecret(spec=spec)))


@verb(app, "ls", "list")
def ls(call: Invocation, *, filter: Filters = None) -> None:
    """List secrets, newest first."""
    request = parse_list_filters(filter or ())
    with call.client() as client:
        listed = client.read(SECRET_LIST, request).secrets
    views = sorted(listed, key=lambda view: -view.secret.meta.created_at)  # of one instant: by name, as they come
    show_list(call, SECRET, views, lambda wide: secret_list(views, call.environment.now(), wide=wide))


@verb(app, "inspect")
def inspect(call: Invocation, secret: SecretArgument) -> None:
    """Show what is known of a secret: everything but its payload."""
    with call.client() as client:
        view = find_secret(client, secret)
    show_one(call, SECRET, view, lambda: secret_summary(view))


@verb(app, "update")
def update(call: Invocation, secret: SecretArgument, edits: LabelEdits) -> None:
    """Change labels: nothing else of a secret can be changed."""
    if edits.is_empty:
        raise Invalid("nothing to change was given", hint="swarmctl secret update --label-add KEY=VALUE --label-rm KEY")
    expected = None if edits.version is None else parse_integer(edits.version, "--version")
    edits.applied({})  # what is wrong with them is told before anybody is asked
    with call.client() as client:
        before = find_secret(client, secret)
        view = _update(client, before, edits, version=expected)
        if view.secret.meta.version == before.secret.meta.version:
            call.note(f"secret {view.secret.spec.name} is so already: no changes")
        show_changed(call, SECRET, view)


@verb(app, "rm", "remove")
def rm(call: Invocation, secrets: Annotated[list[str], typer.Argument(help="Names, ids or id prefixes.")]) -> int:
    """Remove secrets that no service and no running task refers to."""
    with call.client() as client:

        def remove(reference: str) -> None:
            secret = find_secret(client, reference).secret
            client.change(SECRET_REMOVE, RemoveObject(id=secret.id))
            call.line(secret.id)

        return call.for_each(secrets, remove)


def _update(client: Client, view: SecretView, edits: LabelEdits, *, version: int | None) -> SecretView:
    """Where the user named no version, somebody else's change in between is no obstacle."""
    for left in reversed(range(EDIT_TRIES_MAX)):
        secret = view.secret
        spec = replace(secret.spec, labels=edits.applied(secret.spec.labels))
        at = secret.meta.version if version is None else version
        try:
            return client.change(SECRET_UPDATE, UpdateSecret(id=secret.id, spec=spec, version=at))
        except Conflict:
            if version is not None or not left:
                raise
        view = client.read(SECRET_GET, GetObject(id=secret.id))
    raise AssertionError("the last try returns or raises")
