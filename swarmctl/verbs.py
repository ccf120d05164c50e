"""How commands are made: a function whose first parameter is an `Invocation` becomes one with every common option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from swarmctl.environment import DEFAULT_SOCKET, Environment
from swarmctl.invocation import Invocation, Output, parse_output
from swarmd.errors import Unimplemented

F = TypeVar("F", bound=Callable[..., Any])
G = TypeVar("G", bound=msgspec.Struct)

_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY
_HELP_OPTIONS: Final = {"help_option_names": ["-h", "--help"]}
_VERBS: Final[dict[str, dict[str, tuple[Callable[..., Any], bool]]]] = {}
"""Noun -> name of a command -> (its function, whether that name is an alias)."""
_NESTED: Final[dict[str, dict[str, typer.Typer]]] = {}
"""Noun -> word -> the group that it opens."""

NOT_BUILT: Final = {
    "node": ("leave", "logs", "ps", "replace", "set-address"),
    "service": ("diff", "history", "log", "logs"),
    "task": ("exec", "logs", "remove", "rm"),
}
"""Planned commands of each noun: asking for one says that it is not built yet."""


class CommonOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that every command takes."""

    socket: Annotated[
        str | None,
        typer.Option(
            "--socket", "-s", metavar="PATH", help="Control socket (default: $SWARM_SOCKET, else /var/run/swarmd.sock)."
        ),
    ] = None
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="|".join(Output), help="How results are printed.")
    ] = None
    no_resolve: Annotated[
        bool, typer.Option("--no-resolve/--resolve", "-n", help="Print ids instead of names.", show_default=False)
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print full ids only, one a line.")] = False
    stale: Annotated[bool, typer.Option("--stale", help="Read what this manager has, without asking the others.")] = (
        False
    )


class _Verbatim:
    """Takes an option's text as it was typed.

    Typer from 0.29 on converts through pydantic, whose import alone takes longer than all of swarmctl. Every option
    here is a flag or text that `swarmctl.values` reads, so nothing needs converting.
    """

    @staticmethod
    def coerce(value: Any, param: Any, ctx: Any) -> Any:
        return () if value is None and (param.multiple or param.nargs == -1) else value


def _take_verbatim(params: Any) -> Any:
    for param in params:
        param.get_runtime_param = _Verbatim
    return params


class Verb(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> Any:
        return _take_verbatim(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spelled_out(self.get_params(ctx), args))


def _spelled_out(params: Any, args: list[str]) -> list[str]:
    """`--flag=false` as `--no-flag`, and `--flag=true` as `--flag`: the way Go's flags are written."""
    spellings = {
        f"{name}={word}": choice[0]
        for param in params
        if getattr(param, "is_bool_flag", False) and param.secondary_opts
        for name in param.opts
        for word, choice in (("true", param.opts), ("false", param.secondary_opts))
    }
    return [spellings.get(arg, arg) for arg in args]


class Group(TyperGroup):
    """Some commands, each built when it is called or listed. Without a command it prints its help; an unknown one is
    answered with a suggestion."""

    def get_params(self, ctx: Any) -> Any:
        return _take_verbatim(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        noun = self.name or ""
        return [name for name, (_, is_alias) in _VERBS[noun].items() if not is_alias] + list(_NESTED.get(noun, ()))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        noun = self.name or ""
        if cmd_name in _VERBS[noun]:
            return _built(noun, cmd_name)
        if cmd_name in _NESTED.get(noun, ()):
            return get_command(_NESTED[noun][cmd_name])
        if cmd_name in NOT_BUILT.get(noun, ()):
            raise not_built(f"{noun} {cmd_name}")
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f'no such command "{args[0]}"' + _suggestion(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def _suggestion(word: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only where something went wrong

    near = get_close_matches(word, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def not_built(command: str) -> Unimplemented:
    """What a planned command answers."""
    return Unimplemented(f'"swarmctl {command}" is not built yet')


def group(name: str, help: str, cls: type[Group] = Group) -> typer.Typer:
    """An app of several commands, whose common options may also stand before the command."""

    def options(**_: Any) -> None:
        """Typer keeps the values in the context, where `_invocation` finds them."""

    _VERBS.setdefault(name, {})
    app = _plain_app(name=name, help=help, cls=cls, context_settings=_HELP_OPTIONS)
    _sign(options, list(_options_of(CommonOptions)))
    options.__doc__ = None
    app.callback()(options)
    return app


def nest(app: typer.Typer, word: str, inner: typer.Typer) -> None:
    """Make `word` after the noun `app` open the group `inner`."""
    _NESTED.setdefault(app.info.name or "", {})[word] = inner


def _plain_app(**settings: Any) -> typer.Typer:
    """Plain text, no tracebacks, nothing that installs itself into a shell."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def verb(app: typer.Typer, *names: str) -> Callable[[F], F]:
    """Register a command under its name and (hidden) aliases.

    Its first parameter is the `Invocation`; the options that every command takes are added to its own, so that they
    may stand anywhere on the line. A parameter whose type is a Struct stands for one option per field, whose fields
    may be such Structs again.
    """

    def register(fn: F) -> F:
        noun = app.info.name or ""
        for position, name in enumerate(names):
            _VERBS[noun][name] = (fn, position > 0)
        return fn

    return register


@cache
def _built(noun: str, name: str) -> Any:
    fn, _ = _VERBS[noun][name]
    app = _plain_app()
    app.command(name, cls=Verb, context_settings=_HELP_OPTIONS)(_command(fn))
    return get_command(app)


def _command(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What Typer inspects and calls in the place of `fn`."""
    own = list(inspect.signature(fn, eval_str=True).parameters.values())[1:]
    groups: dict[str, Any] = {
        parameter.name: parameter.annotation for parameter in own if _is_option_group(parameter.annotation)
    }

    def run(ctx: typer.Context, **options: Any) -> Any:
        invocation = _invocation(ctx, _taken(CommonOptions, options))
        return fn(invocation, **{name: _taken(group, options) for name, group in groups.items()}, **options)

    parameters = [inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context)]
    for parameter in own:
        if parameter.name in groups:
            parameters += _options_of(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=_KEYWORD))
    _sign(run, [*parameters, *_options_of(CommonOptions)])
    run.__doc__ = fn.__doc__
    run.__name__ = fn.__name__
    return run


def _sign(fn: Any, parameters: list[inspect.Parameter]) -> None:
    fn.__signature__ = inspect.Signature(parameters)
    fn.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _is_option_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


@cache
def _options_of(group: type[msgspec.Struct]) -> tuple[inspect.Parameter, ...]:
    hints = get_type_hints(group, include_extras=True)
    defaults = (inspect.Parameter.empty,) * (len(group.__struct_fields__) - len(group.__struct_defaults__))
    parameters: list[inspect.Parameter] = []
    for name, default in zip(group.__struct_fields__, defaults + group.__struct_defaults__, strict=True):
        if _is_option_group(hints[name]):
            parameters += _options_of(hints[name])
        else:
            parameters.append(inspect.Parameter(name, _KEYWORD, default=default, annotation=hints[name]))
    return tuple(parameters)


def _taken(group: type[G], options: dict[str, Any]) -> G:
    """A `group` made of its options, which are taken out of `options`."""
    hints = get_type_hints(group)
    return group(
        **{
            name: _taken(hints[name], options) if _is_option_group(hints[name]) else options.pop(name)
            for name in group.__struct_fields__
        }
    )


def _invocation(ctx: typer.Context, own: CommonOptions) -> Invocation:
    """A command's own options, else those given before it, else the environment, else the defaults."""
    given: dict[str, Any] = {name: getattr(own, name) for name in own.__struct_fields__}
    outer = ctx.parent
    while outer is not None:
        given = {name: value or outer.params.get(name) for name, value in given.items()}
        outer = outer.parent
    environment: Environment = ctx.obj
    return Invocation(
        environment,
        socket=Path(given["socket"] or environment.variables.get("SWARM_SOCKET") or DEFAULT_SOCKET),
        output=parse_output(given["output"] or ""),
        no_resolve=bool(given["no_resolve"]),
        quiet=bool(given["quiet"]),
        stale=bool(given["stale"]),
    )
