"""`make fuzz`: each target in a process of its own, for so many seconds, guided by coverage where atheris is there.

What is found is kept in `build/fuzz/TARGET` together with all inputs that reached something new, so that the next run
goes on from there. Mend what was found, and keep the input in `tests/fuzz/seeds/TARGET`: `make test` replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import seeds_of

KEPT: Final = Path(__file__).parents[2] / "build" / "fuzz"
INPUT_BYTES_MAX: Final = 65_536
INPUT_S_MAX: Final = 5
"""An input that takes longer is found."""
NAMES: Final = (
    "codec", "frames", "session", "raft", "membership", "command", "apply", "snapshot", "sealed", "files", "pem", "der",
    "texts", "answers",
)  # fmt: skip
"""Of `targets.TARGETS`, which is imported by the instrumented process alone."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=NAMES, action="append")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        (target,) = arguments.target
        return _fuzz(target, arguments.seconds)
    found = []
    for target in arguments.target or NAMES:
        command = [sys.executable, "-m", "tests.fuzz.run", "--inside", "--target", target]
        if subprocess.run([*command, "--seconds", str(arguments.seconds)], check=False).returncode:
            found.append(target)
    if found:
        print(f"found something in: {', '.join(found)}; the inputs are in {KEPT}/TARGET/found-*")
    return 1 if found else 0


def _fuzz(target: str, seconds: int) -> int:
    folder = KEPT / target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(target).values():
        (folder / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    try:
        import atheris
    except ImportError:
        return _without_coverage(target, seconds, folder)
    with atheris.instrument_imports(include=["swarmd", "swarmctl"]):
        from tests.fuzz.shapes import CHANGE_OF
        from tests.fuzz.targets import TARGETS
    print(f"{target}: for {seconds} s, guided by coverage", flush=True)
    options = {
        "max_total_time": seconds,
        "max_len": INPUT_BYTES_MAX,
        "timeout": INPUT_S_MAX,
        "artifact_prefix": f"{folder}/found-",
        "print_final_stats": 1,
        "verbosity": 0,
        "rss_limit_mb": 1024,
    }
    shaping = CHANGE_OF.get(target)

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        """Half of the time one that keeps the shape."""
        rng = random.Random(seed)
        changed = shaping(data, rng) if shaping is not None and rng.random() < 0.5 else None
        if changed is None or len(changed) > size_max:
            changed = atheris.Mutate(data, size_max)
        return bytes(changed)

    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(folder / "corpus")],
                  TARGETS[target], custom_mutator=mutate)  # fmt: skip
    atheris.Fuzz()
    return 0


def _without_coverage(target: str, seconds: int, folder: Path) -> int:
    from tests.fuzz.mutation import mutations
    from tests.fuzz.targets import TARGETS

    print(f"{target}: for {seconds} s, blindly (atheris is not installed)", flush=True)
    corpus = [path.read_bytes() for path in sorted((folder / "corpus").iterdir())] or [b""]
    until, inputs = time.monotonic() + seconds, 0
    for data in mutations(target, corpus, random.Random(time.time_ns())):
        if time.monotonic() > until:
            break
        inputs += 1
        began = time.monotonic()
        try:
            TARGETS[target](data)
        except Exception:  # noqa: BLE001 - that is what it is looking for
            traceback.print_exc()
        else:
            if time.monotonic() - began < INPUT_S_MAX:
                continue
        path = folder / f"found-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        print(f"found: {path}")
        return 1
    print(f"{target}: {inputs} inputs, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
