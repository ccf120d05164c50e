"""Terminals on one sandboxed machine: daemons in the background, commands typed as a document has them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

from tests.e2e.machines import Failed
from tests.engine.sandbox import Sandbox

STOP_S_MAX: Final = 15.0
COMMAND_S_MAX: Final = 60.0
LOG_LINES: Final = 12


class Terminals:
    """Some terminals that share a `PATH` with this checkout's tools, and what was exported."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._environment.pop("XDG_RUNTIME_DIR", None)
        self._daemons: list[tuple[subprocess.Popen[Any], IO[str]]] = []

    def export(self, assignment: str) -> None:
        """`export NAME=VALUE` in every terminal."""
        name, _, value = assignment.partition("=")
        self._environment[name] = value

    def daemon(self, line: str) -> subprocess.Popen[Any]:
        """Type `line` in a terminal of its own and leave it running."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the terminal
        process = self._sandbox.popen(
            shlex.split(line), env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._daemons.append((process, log))
        return process

    def type(self, line: str, *, check: bool = True) -> str:
        """What `line` prints. Raises `Failed` if it fails."""
        done = self._sandbox.run(
            shlex.split(line),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if check and done.returncode:
            raise Failed(f"{line}: exit status {done.returncode}\n{done.stdout}{done.stderr}\n{self.logs()}")
        return str(done.stdout)

    def logs(self) -> str:
        """The last lines of each daemon."""
        texts = []
        for process, log in self._daemons:
            log.seek(0)
            lines = log.read().splitlines()
            texts.append("\n".join([f"--- {shlex.join(process.args)}", *lines[-LOG_LINES:]]))  # type: ignore[arg-type]
        return "\n".join(texts)

    def stop_daemons(self) -> set[int]:
        """Ctrl-C in each of their terminals, the last first; their exit statuses."""
        statuses = set()
        for process, _ in reversed(self._daemons):
            process.terminate()
        for process, _ in self._daemons:
            statuses.add(process.wait(STOP_S_MAX))
        return statuses

    def close(self) -> None:
        """End whatever still runs."""
        for process, log in self._daemons:
            if process.poll() is None:
                process.kill()
                process.wait()
            log.close()
