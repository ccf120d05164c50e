"""`config create`, `ls`, `inspect`, `update`, `rm`."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.invocation import Invocation
from swarmctl.kinds import CONFIG
from swarmctl.payload_flags import Filters, LabelEdits, Source, parse_list_filters, read_payload
from swarmctl.render.payloads import config_list, config_summary
from swarmctl.resolve import find_config
from swarmctl.show import show_changed, show_list, show_one
from swarmctl.values import parse_integer
from swarmctl.verbs import group, verb
from swarmd.errors import Conflict, Invalid
from swarmd.model import ConfigSpec, Driver
from swarmd.wire.control import GetObject, RemoveObject
from swarmd.wire.methods import CONFIG_CREATE, CONFIG_GET, CONFIG_LIST, CONFIG_REMOVE, CONFIG_UPDATE
from swarmd.wire.payloads import ConfigView, CreateConfig, UpdateConfig

app = group("config", "Payloads that tasks are given as files and that may be read.")

EDIT_TRIES_MAX: Final = 3

ConfigArgument = Annotated[str, typer.Argument(help="Its name, id or id prefix.")]


@verb(app, "create")
def create(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="1 to 64 letters, digits, - _ and .")],
    source: Source,
    path: Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="The payload; - is standard input.")] = None,
) -> None:
    """Create a config from a file or standard input: 1 to 1,023,999 bytes, taken as they are."""
    spec = ConfigSpec(
        name=name,
        labels=source.labels,
        data=read_payload(call.environment, "config", name, path, source.file),
        templating=Driver(name=source.template_driver) if source.template_driver else None,
    )
    with call.client() as client:
        show_changed(call, CONFIG, client.change(CONFIG_CREATE, CreateConfig(spec=spec)))


@verb(app, "ls", "list")
def ls(call: Invocation, *, filter: Filters = None) -> None:
    """List configs, newest first."""
    request = parse_list_filters(filter or ())
    with call.client() as client:
        listed = client.read(CONFIG_LIST, request).configs
    views = sorted(listed, key=lambda view: -view.config.meta.created_at)  # of one instant: by name, as they come
    show_list(call, CONFIG, views, lambda wide: config_list(views, call.environment.now(), wide=wide))


@verb(app, "inspect")
def inspect(
    call: Invocation,
    config: ConfigArgument,
    *,
    payload: Annotated[bool, typer.Option("--payload", help="The payload alone, byte for byte.")] = False,
) -> None:
    """Show a config and its payload."""
    with call.client() as client:
        view = client.read(CONFIG_GET, GetObject(id=find_config(client, config).config.id))
    if payload:
        call.environment.write_bytes(view.config.spec.data)
    else:
        show_one(call, CONFIG, view, lambda: config_summary(view))


@verb(app, "update")
def update(call: Invocation, config: ConfigArgument, edits: LabelEdits) -> None:
    """Change labels: nothing else of a config can be changed."""
    if edits.is_empty:
        raise Invalid("nothing to change was given", hint="swarmctl config update --label-add KEY=VALUE --label-rm KEY")
    expected = None if edits.version is None else parse_integer(edits.version, "--version")
    edits.applied({})  # what is wrong with them is told before anybody is asked
    with call.client() as client:
        before = find_config(client, config)
        view = _update(client, before, edits, version=expected)
        if view.config.meta.version == before.config.meta.version:
            call.note(f"config {view.config.spec.name} is so already: no changes")
        show_changed(call, CONFIG, view)


@verb(app, "rm", "remove")
def rm(call: Invocation, configs: Annotated[list[str], typer.Argument(help="Names, ids or id prefixes.")]) -> int:
    """Remove configs that no service and no running task refers to."""
    with call.client() as client:

        def remove(reference: str) -> None:
            config = find_config(client, reference).config
            client.change(CONFIG_REMOVE, RemoveObject(id=config.id))
            call.line(config.id)

        return call.for_each(configs, remove)


def _update(client: Client, view: ConfigView, edits: LabelEdits, *, version: int | None) -> ConfigView:
    """Where the user named no version, somebody else's change in between is no obstacle. The payload is not sent along:
    empty means as it is."""
    for left in reversed(range(EDIT_TRIES_MAX)):
        config = view.config
        spec = replace(config.spec, data=b"", labels=edits.applied(config.spec.labels))
        at = config.meta.version if version is None else version
        try:
            return client.change(CONFIG_UPDATE, UpdateConfig(id=config.id, spec=spec, version=at))
        except Conflict:
            if version is not None or not left:
                raise
        view = client.read(CONFIG_GET, GetObject(id=config.id))
    raise AssertionError("the last try returns or raises")
