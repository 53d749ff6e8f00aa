"""A router that speaks PCP and NAT-PMP on the virtual internet, well or badly, as a test has it."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing import Host
from netmesh_trio.traversal.portmap import Gateway

Mangle = Callable[[bytes, bytes], "list[bytes]"]


class Router:
    """Written from the RFCs, not from the code under test; its own bytes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.external = "203.0.113.50"
        self.speaks = {"pcp", "nat-pmp"}
        #: Outside port to inside host, port and end of the lease.
        self.table: dict[int, tuple[str, int, float]] = {}
        self.nonces: dict[int, bytes] = {}
        self.longest = 86400
        #: PCP and NAT-PMP result code for requests for a mapping.
        self.result = 0
        self.requests: list[bytes] = []
        self.silent = False
        #: What to send in place of an answer, given request and answer.
        self.mangle: Mangle = lambda request, answer: [answer]
        #: From which port.
        self.answer_port = 5351
        self.reboot()

    def reboot(self) -> None:
        """Forget everything."""
        self.started = trio.current_time()
        self.skew = 0.0
        self.table.clear()
        self.nonces.clear()

    def gateway_for(self, host: Host) -> Gateway:
        return Gateway(self.host.address, host.address)

    @property
    def epoch(self) -> int:
        return int(trio.current_time() - self.started + self.skew)

    @property
    def ports(self) -> dict[int, tuple[str, int]]:
        """What is mapped now."""
        now = trio.current_time()
        return {port: (host, inner) for port, (host, inner, end) in self.table.items() if end > now}

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        socket = await self.host.bind(self.host.address, 5351)
        other = await self.host.bind(self.host.address, 5352)
        task_status.started()
        try:
            while True:
                await socket.wait_readable()
                while (received := socket.receive_nowait()) is not None:
                    data, size, source = received
                    by = socket if self.answer_port == 5351 else other
                    for at in range(0, len(data), size):
                        self.on_request(bytes(data[at : at + size]), source, by)
        finally:
            socket.close()
            other.close()

    def on_request(self, request: bytes, source: Address, socket: object) -> None:
        self.requests.append(request)
        if self.silent:
            return
        answer = self.answer(request, source)
        if answer is not None:
            for packet in self.mangle(request, answer):
                socket.send((packet,), len(packet), source)  # type: ignore[attr-defined]

    def answer(self, request: bytes, source: Address) -> bytes | None:
        if request[0] == 2:
            if "pcp" in self.speaks:
                return self.pcp(request, source)
            if "nat-pmp" in self.speaks:
                return bytes((0, 128 + request[1])) + struct.pack(">HI", 1, self.epoch)
            return None
        return self.natpmp(request, source) if "nat-pmp" in self.speaks else None

    def assign(self, wanted: int, inner: tuple[str, int], *, fixed: bool = False) -> int | None:
        for port, (host, internal, _) in list(self.table.items()):
            if (host, internal) == inner and port in self.ports:
                return port if port == wanted or not fixed else None
        port = wanted or 40000
        while port in self.ports:
            if fixed:
                return None
            port += 1
        return port

    def natpmp(self, request: bytes, source: Address) -> bytes:
        if request == bytes(2):
            return struct.pack(">BBHI", 0, 128, 0, self.epoch) + ipaddress.IPv4Address(self.external).packed
        _, opcode, _, inner, outer, lifetime = struct.unpack(">BBHHHI", request)
        assert opcode == 1
        key = (source.host, inner)
        if self.result:
            return struct.pack(">BBHIHHI", 0, 129, self.result, self.epoch, inner, outer, 0)
        if not lifetime:
            assert outer == 0
            for port in [p for p, (host, port, _) in self.table.items() if (host, port) == key]:
                del self.table[port]
            return struct.pack(">BBHIHHI", 0, 129, 0, self.epoch, inner, 0, 0)
        granted = min(lifetime, self.longest)
        chosen = self.assign(outer, key)
        assert chosen is not None
        self.table[chosen] = (*key, trio.current_time() + granted)
        return struct.pack(">BBHIHHI", 0, 129, 0, self.epoch, inner, chosen, granted)

    def pcp(self, request: bytes, source: Address) -> bytes:
        assert len(request) % 4 == 0
        _, opcode, lifetime, client = struct.unpack(">BBxxI16s", request[:24])

        def header(result: int, granted: int) -> bytes:
            return struct.pack(">BBxBII12x", 2, 128 + opcode, result, granted, self.epoch)

        if client != _packed(source.host):
            return header(12, 30) + request[24:]
        if opcode == 0:
            assert len(request) == 24
            return header(0, 0)
        nonce, protocol, inner, outer, external = struct.unpack(">12sBxxxHH16s", request[24:60])
        options = request[60:]
        assert (opcode, protocol) == (1, 17)
        assert options in (b"", b"\2\0\0\0")
        key = (source.host, inner)

        def body(port: int, host: str) -> bytes:
            return struct.pack(">12sBxxxHH16s", nonce, 17, inner, port, _packed(host)) + options

        if self.result:
            return header(self.result, 30) + body(outer, self.external)
        present = [p for p, (host, port, _) in self.table.items() if (host, port) == key and p in self.ports]
        if present and self.nonces.get(present[0]) != nonce:
            return header(2, 30) + body(outer, self.external)
        if not lifetime:
            for port in present:
                del self.table[port]
            return header(0, 0) + body(0, "0.0.0.0")
        wants_address = external not in (_packed("0.0.0.0"), bytes(16), _packed(self.external))
        chosen = None if options and wants_address else self.assign(outer, key, fixed=bool(options))
        if chosen is None:
            return header(11, 30) + body(outer, self.external)
        granted = min(lifetime, self.longest)
        self.table[chosen] = (*key, trio.current_time() + granted)
        self.nonces[chosen] = nonce
        return header(0, granted) + body(chosen, self.external)


def _packed(host: str) -> bytes:
    ip = ipaddress.ip_address(host)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


@contextmanager
def mangled(router: Router, mangle: Mangle) -> Iterator[None]:
    """Answer like this for the length of a block."""
    kept, router.mangle = router.mangle, mangle
    try:
        yield
    finally:
        router.mangle = kept
