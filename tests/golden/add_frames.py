"""Add frames to the golden corpus: `python tests/golden/add_frames.py NAME HEX`; without arguments, the samples.

A file that exists is never changed: whatever was once written must be readable for ever.
"""

from __future__ import annotations

import sys
from pathlib import Path

from swarmd.errors import Conflict, OutcomeUnknown
from swarmd.model import Role
from swarmd.wire.ca import IssueRequest
from swarmd.wire.frames import (
    CancelFrame,
    CreditFrame,
    DataFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    Headers,
    Hello,
    HelloFrame,
    OpenFrame,
    encode_frame,
    error_body,
)
from swarmd.wire.identity import ForwardedCaller
from swarmd.wire.peer import RaftFrame

FOLDER = Path(__file__).parent / "frames"

SAMPLES: dict[str, Frame] = {
    "hello-control": HelloFrame(Hello()),
    "hello-raft": HelloFrame(
        Hello(
            protocol=(1, 1),
            class_="raft",
            features=("swarm.1",),
            swarm="s" * 25,
            node="n" * 25,
            incarnation=bytes(range(16)),
            version="0.1.0",
            window=(64, 8 << 20),
        )
    ),
    "open-plain": OpenFrame(1, "health", 5.0, Headers(), {}),
    "open-without-deadline": OpenFrame(3, "raft.snapshot", None, Headers(), None),
    "open-with-bytes": OpenFrame(5, "ca.issue", 2.5, Headers(), IssueRequest(csr=b"\x00csr\xff", token="SWMTKN-1-x-y")),
    "open-mutation": OpenFrame(7, "node.remove", 15.0, Headers(key=bytes(range(16)), seen_index=77), {"id": "n"}),
    "open-forwarded": OpenFrame(
        9,
        "service.remove",
        4.25,
        Headers(
            key=b"k",
            stale=True,
            forwarded=ForwardedCaller(
                node_id="n" * 25, role=Role.MANAGER, swarm_id="s" * 25, is_local=True, address="local user 0"
            ),
        ),
        {"id": "web"},
    ),
    "data": DataFrame(2, {"node_id": "n", "is_member": True}),
    "data-posts": DataFrame(11, RaftFrame(messages=(b"", b"\x01\x02", b"\xff" * 30))),
    "credit": CreditFrame(4, 32, 4 << 20),
    "end": EndFrame(6),
    "error": ErrorFrame(
        8, error_body(Conflict("changed meanwhile", field="$.spec", object="service web", hint="retry"))
    ),
    "error-outcome-unknown": ErrorFrame(10, error_body(OutcomeUnknown("no leader"))),
    "error-of-the-connection": ErrorFrame(0, error_body(Conflict("m"))),
    "cancel": CancelFrame((1 << 53) - 1),
}


def add(name: str, data: bytes) -> bool:
    """Write one frame as hex unless the name is taken."""
    path = FOLDER / f"{name}.hex"
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(data.hex() + "\n")
    except FileExistsError:
        return False
    return True


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    if len(sys.argv) == 3:
        wanted = {sys.argv[1]: bytes.fromhex(sys.argv[2])}
    else:
        wanted = {name: encode_frame(frame) for name, frame in SAMPLES.items()}
    for name, data in wanted.items():
        sys.stdout.write(f"{'added' if add(name, data) else 'kept'} {name}\n")


if __name__ == "__main__":
    main()
