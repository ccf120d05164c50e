"""Host ports by node."""

from __future__ import annotations

from swarmd.model import PortProtocol
from swarmd.scheduler.ports import HostPorts

TCP, UDP = PortProtocol.TCP, PortProtocol.UDP


def test_a_port_is_free_once_the_last_of_its_holders_is_gone() -> None:
    ports = HostPorts()
    ports.take(3, ((TCP, 80),), "web")
    ports.take(3, ((TCP, 80), (UDP, 80)), "dns")
    assert ports.holding(((TCP, 80),)) == 0b1000
    assert ports.holders((TCP, 80), 3) == ("web", "dns")
    ports.give_back(3, ((TCP, 80),), "web")
    assert ports.holding(((TCP, 80),)) == 0b1000
    ports.give_back(3, ((TCP, 80), (UDP, 80)), "dns")
    assert ports.taken == {}


def test_protocols_do_not_meet() -> None:
    ports = HostPorts()
    ports.take(0, ((TCP, 58),), "a")
    assert ports.holding(((UDP, 58),)) == 0
    assert ports.holding(((UDP, 58), (TCP, 58))) == 1
