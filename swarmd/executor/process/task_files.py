"""The durable handle of one task: a directory that a later daemon reads to find, await and stop it. Blocking.

launch      what to become (a NUL-separated plan, see launch.py)      prepare, fsync + rename
task.log    standard output and error                                 prepare; kept open by the task
intent      boot id in which a start was begun                        start, fsync + rename, before any spawn
supervisor  pid, start time, boot id: the claim, made by link(2)      supervisor.sh, or `forbid_start`
child       pid, start time, boot id                                  launch.py, before exec
failed      why there was no exec; else empty                         launch.py
stop        asked to stop                                             shutdown, before it looks for `child`
exit        exit status, 128 + signal                                 supervisor.sh, sync + rename
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from swarmd.executor.process.proc import ProcessIdentity

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
DELETE_TRIES: Final = 5
NOBODY: Final = "0 0 -"
"""The claim of who forbids a start: no process has pid 0."""


class Handle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the files said when they were read."""

    is_prepared: bool = False
    intent: str | None = None
    supervisor: ProcessIdentity | None = None
    child: ProcessIdentity | None = None
    failure: str = ""
    exit_code: int | None = None

    @property
    def is_forbidden(self) -> bool:
        """Whether it was stopped before it was started."""
        return self.supervisor is not None and self.supervisor.pid == 0

    @property
    def is_over(self) -> bool:
        """Whether how it ended is known."""
        return self.exit_code is not None or bool(self.failure)


class TaskFiles:
    """One task's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def log_path(self) -> Path:
        return self.path / "task.log"

    def prepare(self, launch: bytes) -> None:
        """Make the directory with its plan and an empty log. Done before: nothing changes."""
        # Apart, because `mode` holds for the last directory only.
        self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self.path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        if (self.path / "launch").exists():
            return
        os.close(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE))
        self._write("launch", launch)
        sync_directory(self.path.parent)

    def read(self) -> Handle:
        """Everything the files say; an empty handle if there is no directory."""
        supervisor, child, exit_text = self._text("supervisor"), self._text("child"), self._text("exit")
        return Handle(
            is_prepared=(self.path / "launch").exists(),
            intent=self._text("intent"),
            supervisor=None if supervisor is None else ProcessIdentity.parse(supervisor),
            child=None if child is None else ProcessIdentity.parse(child),
            failure=self._text("failed") or "",
            exit_code=int(exit_text) if exit_text is not None and exit_text.isdecimal() else None,
        )

    def launch(self) -> bytes:
        """The plan; empty if there is none."""
        try:
            return (self.path / "launch").read_bytes()
        except FileNotFoundError:
            return b""

    def write_intent(self, boot: str) -> None:
        """Say durably that a start is about to happen in this boot."""
        self._write("intent", boot.encode())

    def request_stop(self) -> None:
        """A launcher that has not become the task yet will not."""
        os.close(os.open(self.path / "stop", os.O_WRONLY | os.O_CREAT, FILE_MODE))

    def forbid_start(self) -> bool:
        """Take the claim, so that no supervisor starts the task any more. False if one has it already."""
        descriptor, mine = tempfile.mkstemp(dir=self.path, prefix="supervisor.")
        with open(descriptor, "w") as file:
            file.write(NOBODY)
        try:
            os.link(mine, self.path / "supervisor")
        except FileExistsError:
            return False
        finally:
            os.unlink(mine)
        return True

    def delete(self) -> None:
        """Remove the directory. Missing: nothing to do."""
        for attempt in range(DELETE_TRIES):
            try:
                for entry in os.scandir(self.path):
                    Path(entry).unlink(missing_ok=True)
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                # A supervisor that is just leaving may add a file between the listing and the removal.
                if error.errno != errno.ENOTEMPTY or attempt == DELETE_TRIES - 1:
                    raise
            else:
                return

    def _text(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text("utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        # A name of its own: two calls may write the same file at once.
        descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=f"{name}.")  # mode 0600
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.path / name)
        sync_directory(self.path)


def sync_directory(path: Path) -> None:
    """Make names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
