"""What a document tells its reader to type, and what it says they will see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

REPOSITORY: Final = Path(__file__).resolve().parents[2]
README: Final = REPOSITORY / "README.md"

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^## +(.*)$", re.MULTILINE)
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


def section(document: str, title: str) -> str:
    """From the heading `## title` to the next of its level. Raises `KeyError`."""
    headings = list(_HEADING.finditer(document))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading[1] == title:
            return document[heading.end() : following.start() if following else None]
    raise KeyError(title)


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
    """A line without what differs from one run to the next: ids, tokens, times, process ids, which node took what."""
    line = re.sub(r"\b[0-9a-z]{25}\b", "ID", line)
    line = re.sub(r"\bSWMTKN-1-[0-9a-z]{50}-ID\b", "TOKEN", line)
    line = re.sub(r"\b(?:now|\d+ (?:second|minute)s? ago|\d+ minute ago)", "AGO", line)
    line = re.sub(r"^(  Pid +: )\d+$", r"\1PID", line)
    line = re.sub(r"\b(one|two|three|four|node-[1-4])$", "NODE", line.rstrip())
    line = re.sub(r"^(ID +)(?:one|two|three) ", r"\1MANAGER ", line)
    return " ".join(re.sub(r"-{2,}", "--", line).split())


class Walk:
    """What a shell answered to the steps of a document."""

    MARK: Final = "@@@ step"

    def __init__(self, walked: list[Step]) -> None:
        self.steps = walked
        self.script = "\n".join(f"echo '{self.MARK} {number}'\n{step.commands}" for number, step in enumerate(walked))
        self.status = -1
        self.outputs: list[str] = []

    def read(self, status: int | None, transcript: str) -> None:
        """What the shell ended with (None if it had to be ended), and all that it printed."""
        self.status = -1 if status is None else status
        self.outputs = re.split(rf"^{self.MARK} \d+\n", transcript, flags=re.MULTILINE)[1:]

    def unsuccessful(self) -> str:
        """Why it was not walked to the end; empty if it was, and nothing on the way was called an error."""
        if self.status or len(self.outputs) != len(self.steps):
            return f"status {self.status}; the last step that began printed:\n{(self.outputs or [''])[-1]}"
        lines = [line for output in self.outputs for line in output.splitlines()]
        return "\n".join(line for line in lines if line.startswith(("Error:", "Traceback")))

    def unseen(self, number: int) -> str:
        """Which lines the document shows for a step that the step did not print; empty if all were."""
        step = self.steps[number]
        output = self.outputs[number] if number < len(self.outputs) else ""
        seen = {shape(line) for line in output.splitlines()}
        missing = "\n".join(line for line in step.shown if line != "..." and shape(line) not in seen)
        return missing and f"{missing}\nis shown, and was not printed by\n{step.commands}\nwhich printed\n{output}"
