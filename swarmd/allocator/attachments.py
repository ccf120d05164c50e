"""Addresses for services, tasks and nodes: given to what the networks it is in ask for, kept where it had them.

Each function returns the object with what it is to hold, and has entered that in the books; what fails raises and
leaves books and object as they were (reference orchestration 8.2, 8.4).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from swarmd.allocator.books import Books, Holding, holdings_of
from swarmd.errors import SwarmError
from swarmd.model import (
    Endpoint,
    EndpointMode,
    NetworkAttachment,
    NetworkAttachmentConfig,
    Node,
    PublishMode,
    Service,
    Task,
    VirtualIP,
)


def networks_of_template(
    networks: Sequence[NetworkAttachmentConfig], endpoint: Endpoint | None, ingress_id: str
) -> tuple[NetworkAttachmentConfig, ...]:
    """What tasks are to be in: the ingress network (if the service publishes through it), then what the template says,
    each once."""
    publishes = endpoint is not None and any(port.publish_mode is PublishMode.INGRESS for port in endpoint.ports)
    first = [NetworkAttachmentConfig(target=ingress_id)] if publishes and ingress_id else []
    return tuple({config.target: config for config in (*first, *networks)}.values())


def with_virtual_ips(books: Books, service: Service, ingress_id: str) -> Service:
    """The service with one address per network in VIP mode and none in DNSRR. What it has of networks that it stays in
    is kept, the rest is given back. Raises what `Books.take` does."""
    endpoint = service.endpoint or Endpoint()  # of no spec: its ports, if it wants any, are yet to be set aside
    wanted: tuple[str, ...] = ()
    if service.spec.endpoint.mode is EndpointMode.VIP:
        configs = networks_of_template(service.spec.task.networks, service.endpoint, ingress_id)
        wanted = tuple(config.target for config in configs)
    had = {vip.network_id: vip for vip in endpoint.virtual_ips}
    holder = f"service {service.id}"
    taken: list[Holding] = []
    vips: list[VirtualIP] = []
    for network_id in wanted:
        if network_id in had:
            vips.append(had[network_id])
            continue
        try:
            address = books.take(network_id, holder)[0]
        except SwarmError:
            _give_back(books, taken)
            raise
        taken.append(Holding(network_id, address, holder))
        vips.append(VirtualIP(network_id=network_id, addr=address))
    _give_back(books, [Holding(vip.network_id, vip.addr, holder) for id, vip in had.items() if id not in wanted])
    if tuple(vips) == endpoint.virtual_ips:
        return service
    endpoint = replace(endpoint, virtual_ips=tuple(vips))
    return replace(service, endpoint=endpoint if endpoint != Endpoint() else None)


def with_addresses(books: Books, task: Task, configs: Sequence[NetworkAttachmentConfig]) -> Task:
    """The task with addresses in each of `configs`, the preferred ones where there are. One that has any is left alone:
    attachments are filled once. Raises what `Books.take` does; all or nothing is taken."""
    if task.networks or not configs:
        return task
    holder = f"task {task.id}"
    attachments: list[NetworkAttachment] = []
    for config in configs:
        try:
            addresses = books.take(config.target, holder, config.addresses)
        except SwarmError:
            _give_back(books, [Holding(a.network_id, address, holder) for a in attachments for address in a.addresses])
            raise
        attachments.append(
            NetworkAttachment(
                network_id=config.target,
                addresses=addresses,
                aliases=config.aliases,
                driver_attachment_options=config.driver_attachment_options,
            )
        )
    return replace(task, networks=tuple(attachments))


def with_attachments(books: Books, node: Node, network_ids: Collection[str]) -> Node:
    """The node with an address of its own in each of the networks that are in use there, and in no other. Raises what
    `Books.take` does."""
    holder = f"node {node.id}"
    had = {attachment.network_id: attachment for attachment in node.attachments}
    attachments: list[NetworkAttachment] = []
    taken: list[Holding] = []
    for network_id in sorted(network_ids):
        kept = had.get(network_id)
        if kept is None:
            try:
                addresses = books.take(network_id, holder)
            except SwarmError:
                _give_back(books, taken)
                raise
            taken += [Holding(network_id, address, holder) for address in addresses]
            kept = NetworkAttachment(network_id=network_id, addresses=addresses)
        attachments.append(kept)
    gone = [a for id, a in had.items() if id not in network_ids]
    _give_back(books, [Holding(a.network_id, address, holder) for a in gone for address in a.addresses])
    return node if tuple(attachments) == node.attachments else replace(node, attachments=tuple(attachments))


def release_all(books: Books, object: Service | Task | Node) -> int:
    """Give back all that an object's record says, when it goes or has ended; how many were its."""
    records = holdings_of(object) if not isinstance(object, Task) else _of_record(object)
    return sum(books.release(holding) for holding in records)


def _of_record(task: Task) -> list[Holding]:
    """Whether it has ended or not."""
    return [Holding(a.network_id, address, f"task {task.id}") for a in task.networks for address in a.addresses]


def _give_back(books: Books, holdings: Sequence[Holding]) -> None:
    for holding in holdings:
        books.release(holding)
