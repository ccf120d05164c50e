"""`secret` and `config` on the command line, against the real control API over the real state."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmctl.payload_flags import PAYLOAD_BYTES_MAX, parse_list_filters
from swarmd.errors import Invalid
from swarmd.pki.payload_keys import payload_of
from swarmd.wire.payloads import ListPayloads
from tests.unit.manager.control_api.payload_world import PAYLOAD, PayloadWorld
from tests.unit.manager.local_store import EPOCH
from tests.unit.swarmctl.fake_daemon import Result
from tests.unit.swarmctl.test_against_control_api import Swarm

NOUNS = pytest.mark.parametrize("noun", ["secret", "config"])


class PayloadSwarm(Swarm):
    """`typed` is what stands on standard input; `written` what was written as bytes."""

    def __init__(self) -> None:
        self.world: PayloadWorld = PayloadWorld()
        self.world.store.now = lambda: EPOCH  # type: ignore[method-assign]
        self.replies_lost = 0
        self.typed = b""
        self.written = b""
        self.is_terminal = False

    def run(self, *arguments: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        environment = Environment(
            connect=self._link,
            variables={},
            out=out,
            err=err,
            is_terminal=lambda: self.is_terminal,
            read_bytes=lambda count: self.typed[:count],
            write_bytes=self._write,
            now=lambda: EPOCH + 60,
        )
        return Result(run(arguments, environment), out.getvalue(), err.getvalue())

    def _write(self, data: bytes) -> None:
        self.written += data

    def create(self, noun: str, name: str, *more: str, data: bytes = PAYLOAD) -> str:
        self.typed = data
        result = self.run(noun, "create", name, *more)
        assert result.code == 0, result.err
        assert result.err == ""
        return result.out.strip()


@pytest.fixture
def swarm() -> PayloadSwarm:
    return PayloadSwarm()


@NOUNS
def test_they_live_and_die(swarm: PayloadSwarm, noun: str) -> None:
    id = swarm.create(noun, "horse", "-l", "team=web", "--label", "tier=1")
    assert len(id) == 25
    assert swarm.run(noun, "ls", "-q").out == f"{id}\n"
    assert swarm.run(noun, "update", "horse", "--label-add", "team=db", "--label-rm", "tier").out == f"{id}\n"
    shown = json.loads(swarm.run(noun, "inspect", id[:8], "-o", "json").out)
    assert (shown["id"], shown["spec"]["labels"]) == (id, {"team": "db"})
    assert swarm.run(noun, "rm", "horse").out == f"{id}\n"
    assert swarm.run(noun, "list", "-q").out == ""


@NOUNS
def test_the_payload_comes_from_a_file_or_from_standard_input_as_it_is(
    swarm: PayloadSwarm, noun: str, tmp_path: Path
) -> None:
    data = b"\x00\xff\r\nline\n"
    path = tmp_path / "payload"
    path.write_bytes(data)
    swarm.typed = data
    ids = [
        swarm.run(noun, "create", f"n{number}", *arguments).out.strip()
        for number, arguments in enumerate(((str(path),), ("-f", str(path)), ("--file", "-"), ("-",), ()))
    ]
    assert all(len(id) == 25 for id in ids)
    for id in ids:
        if noun == "secret":
            assert payload_of(swarm.world.cluster, swarm.world.secret(id)) == data
        else:
            assert swarm.world.config(id).spec.data == data


def test_a_secrets_payload_is_in_no_format(swarm: PayloadSwarm) -> None:
    swarm.create("secret", "horse")
    needles = [PAYLOAD.decode(), base64.b64encode(PAYLOAD).decode()[:16], PAYLOAD.hex()[:16], '"data"', "data:"]
    for format in ("table", "wide", "name", "json", "yaml"):
        for verb in (("inspect", "horse"), ("ls",), ("update", "horse", "--label-add", f"f={format}")):
            out = swarm.run("secret", *verb, "-o", format).out
            assert out
            assert not [needle for needle in needles if needle in out], (verb, format)


def test_a_config_is_shown_whole_if_it_is_text_and_never_drives_the_terminal(swarm: PayloadSwarm) -> None:
    id = swarm.create("config", "site", data="listen 80;\n\tgrüß dich".encode())
    out = swarm.run("config", "inspect", "site").out
    assert out == (
        f"ID             : {id}\nName           : site\nCreated        : 2027-01-15T08:00:00Z\n"
        "Size           : 23 bytes\n\nlisten 80;\n\tgrüß dich\n"
    )
    swarm.create("config", "evil", data=b"\x1b]0;owned\x07\n")
    swarm.create("config", "binary", data=b"\xff\xfe")
    for name in ("evil", "binary"):
        out = swarm.run("config", "inspect", name).out
        assert "\x1b" not in out
        assert f"swarmctl config inspect --payload {name}" in out
        assert swarm.run("config", "inspect", name, "--payload").out == ""
    assert swarm.written == b"\x1b]0;owned\x07\n\xff\xfe"
    shown = json.loads(swarm.run("config", "inspect", "binary", "-o", "json").out)
    assert base64.b64decode(shown["spec"]["data"]) == b"\xff\xfe"
    assert "data" not in json.loads(swarm.run("config", "ls", "-o", "json").out)[0]["spec"]


def test_what_lists_print(swarm: PayloadSwarm) -> None:
    ids = {name: swarm.create("secret", name, "-l", "a=b") for name in ("beta", "alpha")}
    assert swarm.run("secret", "ls").out == (
        "ID                           Name     Driver    Created\n"
        "--                           ----     ------    -------\n"
        f"{ids['alpha']}    alpha              1 minute ago\n"
        f"{ids['beta']}    beta               1 minute ago\n"
    )
    assert swarm.run("secret", "ls", "-o", "wide").out.splitlines()[2].endswith("1 minute ago    1 minute ago    a=b")
    id = swarm.create("config", "site")
    assert swarm.run("config", "ls").out == (
        "ID                           Name    Created\n"
        "--                           ----    -------\n"
        f"{id}    site    1 minute ago\n"
    )


@NOUNS
def test_lists_are_newest_first_in_every_format(swarm: PayloadSwarm, noun: str) -> None:
    ids = []
    for age, name in enumerate(("a", "b", "c")):
        swarm.world.store.now = lambda age=age: EPOCH + age  # type: ignore[method-assign]
        ids.append(swarm.create(noun, name))
    newest_first = ids[::-1]
    assert swarm.run(noun, "ls", "-q").out.split() == newest_first
    assert [item["id"] for item in json.loads(swarm.run(noun, "ls", "-o", "json").out)] == newest_first
    assert [line.split()[0] for line in swarm.run(noun, "ls").out.splitlines()[2:]] == newest_first


@NOUNS
def test_filters(swarm: PayloadSwarm, noun: str) -> None:
    ids = {
        name: swarm.create(noun, name, "-l", f"team={team}")
        for name, team in (("alpha", "web"), ("beta", "db"), ("beta.old", "db"))
    }

    def names(*filters: str) -> list[str]:
        options = [word for text in filters for word in ("-f", text)]
        listed = json.loads(swarm.run(noun, "ls", "-o", "json", *options).out)
        return sorted(item["spec"]["name"] for item in listed)

    assert names("name=ALPHA", "name=beta") == ["alpha", "beta"]
    assert names("name=bet*") == ["beta", "beta.old"]
    assert names("label=team=db", "name=beta") == ["beta"]
    assert names("label=team") == ["alpha", "beta", "beta.old"]
    assert names("label=team=web", "label=team=db") == []
    assert names(f"id={ids['alpha'][:9]}") == ["alpha"]
    assert names() == sorted(ids)


@pytest.mark.parametrize("text", ["", "name", "name=", "=x", "driver=x", "nmae=x"])
def test_a_filter_that_is_not_understood_is_named(text: str) -> None:
    with pytest.raises(Invalid, match=r"--filter"):
        parse_list_filters((text,))


def test_names_are_whole_or_beginnings() -> None:
    with pytest.raises(Invalid, match="mixed"):
        parse_list_filters(("name=a", "name=b*"))
    assert parse_list_filters(("name=*",)) == ListPayloads(name_prefixes=("",))


@NOUNS
def test_a_change_that_changes_nothing_is_a_note(swarm: PayloadSwarm, noun: str) -> None:
    swarm.create(noun, "horse", "-l", "a=b")
    result = swarm.run(noun, "update", "horse", "--label-add", "a=b", "--label-rm", "c")
    assert (result.code, result.err) == (0, f"{noun} horse is so already: no changes\n")


@NOUNS
def test_lost_replies_do_not_make_a_second(swarm: PayloadSwarm, noun: str) -> None:
    swarm.replies_lost = 1
    id = swarm.create(noun, "horse")
    swarm.replies_lost = 1
    assert swarm.run(noun, "update", "horse", "--label-add", "a=b").code == 0
    swarm.replies_lost = 1
    assert swarm.run(noun, "rm", id).out == f"{id}\n"


def test_several_are_removed_and_each_failure_is_told(swarm: PayloadSwarm) -> None:
    ids = [swarm.create("secret", name) for name in ("a", "b", "c")]
    swarm.world.use(swarm.world.secret(ids[1]), "web")
    result = swarm.run("secret", "rm", "a", "b", "nobody", "c")
    assert result.code == 4
    assert result.out == f"{ids[0]}\n{ids[2]}\n"
    assert 'Error: secret "b" is in use by service web\n' in result.err
    assert 'Error: secret "nobody" not found\n' in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("secret create", 2, "Missing argument"),
        ("secret create a/b -", 2, "not a legal secret name"),
        ("secret create n /nonexistent/file", 2, "cannot read"),
        ("secret create n /", 2, "cannot read"),
        ("secret create n a -f b", 2, "not from both"),
        ("secret create horse -", 4, "exists already"),
        ("secret create HORSE -", 4, "exists already"),
        ("secret create n - --label x", 2, "--label"),
        ("secret create n - --driver vault", 1, "drivers of secrets are not built yet"),
        ("secret create n - --template-driver golang", 1, "templates in a secret are not built yet"),
        ("config create n - --template-driver golang", 1, "templates in a config are not built yet"),
        ("secret update horse", 2, "nothing to change"),
        ("secret update horse --label-add x", 2, "--label-add"),
        ("secret update horse --label-add a=b --version 99", 4, "out of sequence"),
        ("secret update nobody --label-rm a", 3, "not found"),
        ("secret inspect hrose", 3, 'secret "hrose" not found'),
        ("secret rm nobody", 3, "not found"),
        ("secret ls -f nmae=x", 2, "not understood"),
        ("config inspect nobody", 3, "not found"),
        ("config update nobody --label-rm a", 3, "not found"),
    ],
)
def test_bad_input(swarm: PayloadSwarm, arguments: str, code: int, message: str) -> None:
    swarm.create("secret", "horse")
    before = swarm.world.store.state.digest
    swarm.typed = PAYLOAD
    result = swarm.run(*arguments.split())
    assert result.code == code, result.err
    first, *rest = result.err.splitlines()
    assert first.startswith("Error: ")
    assert message in first
    assert len(rest) <= 1
    assert all(line.startswith("Hint: ") for line in rest)
    assert PAYLOAD.decode() not in result.err
    assert swarm.world.store.state.digest == before


@NOUNS
def test_what_is_too_much_or_nothing_is_refused_before_it_is_sent(swarm: PayloadSwarm, noun: str) -> None:
    for data, says in ((b"", "standard input is empty"), (b"x" * (PAYLOAD_BYTES_MAX + 1), "is larger than")):
        swarm.typed = data
        result = swarm.run(noun, "create", "n", "-")
        assert (result.code, says in result.err) == (2, True)
    swarm.typed = b"x" * 512_000
    result = swarm.run(noun, "create", "n", "-")
    assert result.code == (2 if noun == "secret" else 0)


def test_a_terminal_is_read_only_if_it_was_asked_for(swarm: PayloadSwarm) -> None:
    swarm.is_terminal, swarm.typed = True, PAYLOAD
    result = swarm.run("secret", "create", "n")
    assert result.code == 2
    assert "payload is missing" in result.err
    assert "FILE, or - for stdin" in result.err
    assert swarm.run("secret", "create", "n", "-").code == 0


@NOUNS
def test_what_somebody_else_changes_meanwhile_is_kept(swarm: PayloadSwarm, noun: str) -> None:
    """The labels of both are there at the end."""
    id = swarm.create(noun, "horse")
    ask, raced = swarm.world.ask, []

    async def racing(method, request, **options):  # type: ignore[no-untyped-def]
        if method.name == f"{noun}.update" and not raced:
            raced.append(1)
            labels = {"theirs": "1"}
            other = type(request)(id=id, spec=type(request.spec)(name="horse", labels=labels))
            await ask(method, other)
        return await ask(method, request, **options)

    swarm.world.ask = racing  # type: ignore[method-assign]
    assert swarm.run(noun, "update", "horse", "--label-add", "mine=1").code == 0
    shown = json.loads(swarm.run(noun, "inspect", "horse", "-o", "json").out)
    assert shown["spec"]["labels"] == {"theirs": "1", "mine": "1"}
