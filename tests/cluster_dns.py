"""What a cluster's DNS says of pods behind headless Services, for a cluster that has none."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingUDPServer
from threading import Thread

from kubernetes.client import CoreV1Api

PORT = 53
HEADER = struct.Struct("!6H")
ADDRESS_RECORD = 1
FOUND, NO_SUCH_NAME = 0x8580, 0x8583


@contextmanager
def cluster_dns(core: CoreV1Api, namespace: str, listen: str) -> Iterator[None]:
    """Within the block, the pods of `namespace` are found by name at port 53 of the address `listen`."""

    class Answer(BaseRequestHandler):
        def handle(self) -> None:
            query, from_here = self.request
            from_here.sendto(_reply(query, lambda: _addresses(core, namespace)), self.client_address)

    with ThreadingUDPServer((listen, PORT), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _addresses(core: CoreV1Api, namespace: str) -> dict[str, str]:
    """Name -> IP of every pod that is an endpoint of a Service of its own subdomain."""
    return {
        f"{address.hostname}.{endpoints.metadata.name}.{namespace}.svc.cluster.local": address.ip
        for endpoints in core.list_namespaced_endpoints(namespace).items
        for subset in endpoints.subsets or ()
        for address in subset.addresses or ()
        if address.hostname
    }


def _reply(query: bytes, addresses: Callable[[], Mapping[str, str]]) -> bytes:
    """The answer to one question (RFC 1035): an address, none of that kind, or no such name."""
    identity, *_ = HEADER.unpack_from(query)
    name, end = _name(query, HEADER.size)
    (kind,) = struct.unpack_from("!H", query, end)
    address = addresses().get(name)
    records = b""
    if address is not None and kind == ADDRESS_RECORD:
        records = struct.pack("!HHHIH4s", 0xC000 | HEADER.size, ADDRESS_RECORD, 1, 1, 4, socket.inet_aton(address))
    header = HEADER.pack(identity, FOUND if address else NO_SUCH_NAME, 1, bool(records), 0, 0)
    return header + query[HEADER.size : end + 4] + records


def _name(query: bytes, at: int) -> tuple[str, int]:
    """The name that starts at that byte, in lower case, and the byte after it."""
    labels = []
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1
