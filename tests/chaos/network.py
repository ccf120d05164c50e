"""A network of our own: a namespace for each manager, on one bridge in another; cuts, loss and delay in each.

Needs root, `ip`, `nft` and `tc`. Names are unique to this process; `close` removes everything.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from typing import Final

SUBNET: Final = "10.99.77"
DEVICE: Final = "eth0"

RULES: Final = """
table inet chaos {
  set unheard { type ipv4_addr; }
  chain input { type filter hook input priority 0; ip saddr @unheard drop; }
  chain lossy { type filter hook output priority 0; }
}
"""

KBIT_FOR_DELAY: Final = {20: 2000, 100: 400, 300: 150}
"""Where the kernel has no netem: a link so slow that packets wait about as long."""


class NetworkFailed(Exception):
    """A command that builds or changes the network failed; the message is what it said."""


class Network:
    """`managers` namespaces, numbered from 1, all hearing each other."""

    def __init__(self, managers: int, *, name: str = "") -> None:
        self._name = name or f"chaos{os.getpid()}"
        self.numbers = range(1, managers + 1)

    def open(self) -> None:
        """Make it. Raises `NetworkFailed`; `close` is for the caller also then."""
        hub = f"{self._name}-hub"
        _run("ip", "netns", "add", hub)
        _run("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", hub, "link", "set", "br0", "up")
        for number in self.numbers:
            place = self.namespace(number)
            _run("ip", "netns", "add", place)
            port = f"port{number}"
            _run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", DEVICE, "netns", place)
            _run("ip", "-n", hub, "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", place, "addr", "add", f"{self.address(number)}/24", "dev", DEVICE)
            _run("ip", "-n", place, "link", "set", DEVICE, "up")
            _run("ip", "-n", place, "link", "set", "lo", "up")
            self._nft(number, RULES)

    def close(self) -> None:
        """Remove what is there of it."""
        for place in (*map(self.namespace, self.numbers), f"{self._name}-hub"):
            subprocess.run(["ip", "netns", "del", place], stderr=subprocess.DEVNULL, check=False)

    def namespace(self, number: int) -> str:
        """Its name, for `ip netns`."""
        return f"{self._name}-m{number}"

    def address(self, number: int) -> str:
        """The manager's IPv4 address."""
        return f"{SUBNET}.{number}"

    def inside(self, number: int) -> list[str]:
        """What makes a command run in there; the process keeps its id."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(number)}", "--"]

    # -- faults -----------------------------------------------------------------------------------------------------

    def hear(self, unheard: Mapping[int, Iterable[int]]) -> None:
        """Let each manager drop what comes from the ones named, and hear all others."""
        for number in self.numbers:
            sources = ", ".join(self.address(other) for other in unheard.get(number, ()))
            add = f"add element inet chaos unheard {{ {sources} }}\n" if sources else ""
            self._nft(number, f"flush set inet chaos unheard\n{add}")

    def lose(self, numbers: Iterable[int], per_cent: int) -> None:
        """These lose so many of the packets they send; 0: none."""
        for number in numbers:
            drop = f"add rule inet chaos lossy oif {DEVICE} numgen random mod 100 < {per_cent} drop\n"
            self._nft(number, "flush chain inet chaos lossy\n" + (drop if per_cent else ""))

    def delay(self, numbers: Iterable[int], ms: int) -> None:
        """What these send takes `ms` longer, give or take half of it; 0: no longer."""
        for number in numbers:
            tc = [*self.inside(number), "tc", "qdisc"]
            subprocess.run([*tc, "del", "dev", DEVICE, "root"], stderr=subprocess.DEVNULL, check=False)
            if not ms:
                continue
            netem = [*tc, "add", "dev", DEVICE, "root", "netem", "delay", f"{ms}ms", f"{ms // 2}ms"]
            if subprocess.run(netem, stderr=subprocess.DEVNULL, check=False).returncode:
                rate = f"{KBIT_FOR_DELAY[ms]}kbit"
                _run(*tc, "add", "dev", DEVICE, "root", "tbf", "rate", rate, "burst", "4kb", "latency", f"{4 * ms}ms")

    def heal(self) -> None:
        """Everybody hears everybody at once."""
        self.hear({})
        self.lose(self.numbers, 0)
        self.delay(self.numbers, 0)

    def _nft(self, number: int, script: str) -> None:
        _run(*self.inside(number), "nft", "-f", "-", stdin=script)


def _run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def unheard_between(*sides: Iterable[int]) -> dict[int, set[int]]:
    """What each of two or more sides must drop so that nobody hears another side."""
    groups = [set(side) for side in sides]
    return {number: set().union(*groups) - group for group in groups for number in group}
