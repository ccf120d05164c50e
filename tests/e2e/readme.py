"""What a document tells its reader to type, and what it says they will see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

REPOSITORY: Final = Path(__file__).resolve().parents[2]
README: Final = REPOSITORY / "README.md"

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_CODE_SPAN: Final = re.compile(r"`([^`\n]+)`")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fenced `sh` block, and the `text` block that follows it at once."""

    commands: str
    shown: tuple[str, ...] = ()


def steps(document: str) -> list[Step]:
    """In the order of the document."""
    found: list[Step] = []
    end = -1
    for fence in _FENCE.finditer(document):
        language, body = fence[1], fence[2]
        if language == "sh":
            found.append(Step(commands=body))
        elif language == "text" and found and fence.start() == end:
            found[-1] = Step(commands=found[-1].commands, shown=tuple(body.splitlines()))
        end = fence.end()
    return found


def commands(document: str, program: str) -> list[list[str]]:
    """The words of every call of `program` in fenced blocks and in code spans, redirections and the like cut off."""
    text = "\n".join(fence[2] for fence in _FENCE.finditer(document) if fence[1] in ("", "sh"))
    text += "\n" + "\n".join(span[1] for span in _CODE_SPAN.finditer(_FENCE.sub("", document)))
    text = text.replace("\\\n", " ")
    call = re.compile(
        rf"""(?:^|[;&|(!] *|until |if |exec |[A-Z]+=\S+ ){program}(?![\w/.-])([^;&|)<>\n"']*)""", re.MULTILINE
    )
    return [match[1].split() for match in call.finditer(text)]


def shape(line: str) -> str:
    """A line without what differs from one run to the next: ids, times, process ids, which node took what."""
    line = re.sub(r"\b[0-9a-z]{25}\b", "ID", line)
    line = re.sub(r"\b(?:now|\d+ (?:second|minute)s? ago|\d+ minute ago)", "AGO", line)
    line = re.sub(r"^(  Pid +: )\d+$", r"\1PID", line)
    line = re.sub(r"\b(one|two|three|four)$", "NODE", line.rstrip())
    line = re.sub(r"^(ID +)(?:one|two|three) ", r"\1MANAGER ", line)
    return " ".join(re.sub(r"-{2,}", "--", line).split())
