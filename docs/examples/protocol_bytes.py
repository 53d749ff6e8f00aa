"""Prints one of each packet and message, made by the library from fixed keys and fixed chance."""

import hashlib
import itertools
from collections.abc import Callable

from netmesh_trio import Address, Identity
from netmesh_trio.routing.announcements import SIGNATURE_CONTEXT, Announcement
from netmesh_trio.routing.circuits import CircuitRefused, CloseCircuit, OpenCircuit, RefusalReason
from netmesh_trio.session.handshake import HandshakeLimits, Initiator, Reply, Responder
from netmesh_trio.session.keys import KeyRing, pack_nonce
from netmesh_trio.wire import frames
from netmesh_trio.wire.control import encode_cbor
from netmesh_trio.wire.hello import Hello, service_tag
from netmesh_trio.wire.packets import circuit_header, data_prefix, stranger

A = Identity(bytes(range(0x20)))
B = Identity(bytes(range(0x20, 0x40)))
PUBLIC_MESH = bytes(32)
INDEX_A, INDEX_B = 0xA0A1A2A3, 0xB0B1B2B3
CIRCUIT_ID = bytes.fromhex("c0c1c2c3c4c5c6c7")


def show(title: str, data: bytes) -> None:
    """A title, and rows of 16 bytes with the offset of the first."""
    print(f"{title}: {len(data)} bytes")
    for at in range(0, len(data), 16):
        print(f"  {at:4}  {data[at : at + 16].hex(' ')}")
    print()


def chance(seed: bytes) -> Callable[[int], bytes]:
    """Not random at all: BLAKE2s of a seed and a counter."""
    count = itertools.count()
    return lambda size: hashlib.blake2s(seed + bytes([next(count)]), digest_size=size).digest()


def hello(boot_id: str, *services: str) -> bytes:
    return Hello(
        boot_id=bytes.fromhex(boot_id),
        max_datagram_size=8952,
        session_window=16 << 20,
        stream_window=8 << 20,
        max_streams=1024,
        service_tags=tuple(service_tag(name) for name in services),
    ).encode()


def responder(limits: HandshakeLimits | None = None) -> Responder:
    return Responder(
        B,
        network_key=PUBLIC_MESH,
        hello=lambda: hello("b8b9babbbcbdbebf", "echo"),
        allocate_index=lambda: INDEX_B,
        random_bytes=chance(b"B"),
        limits=limits,
    )


def main() -> None:
    for name, identity in (("A", A), ("B", B)):
        print(f"Peer id of {name}: {identity.peer_id}\n")
        show(f"Ed25519 key of {name}", bytes(identity.peer_id))
        show(f"X25519 key of {name}", identity.peer_id.x25519)
    show("Hello of A", hello("a8a9aaabacadaeaf"))
    show("Hello of B, which serves 'echo'", hello("b8b9babbbcbdbebf", "echo"))

    initiator = Initiator(
        A,
        B.peer_id,
        network_key=PUBLIC_MESH,
        local_index=INDEX_A,
        hello=hello("a8a9aaabacadaeaf"),
        random_bytes=chance(b"A"),
    )
    init = initiator.packet
    show("INIT of A", init)
    source = Address("192.0.2.1", 4650)
    reply = responder().receive_init(init, source.pack(), 0.0)
    assert isinstance(reply, Reply)
    show("RESPONSE of B", reply.packet)
    established = initiator.receive_response(reply.packet)
    show("Handshake hash", established.handshake_hash)
    show("Key from A to B, generation 0", established.send_key)
    show("Key from B to A, generation 0", established.receive_key)
    show("Secret that the next generation starts from", established.rekey_secret)

    busy = responder(HandshakeLimits(open_rate=0, open_burst=0)).receive_init(init, source.pack(), 0.0)
    assert not isinstance(busy, Reply)
    cookie = getattr(busy, "packet", b"")
    show("COOKIE of B, were it under load", cookie)
    initiator.receive_cookie(cookie)
    show("mac2 of the INIT of A that follows it", initiator.packet[-16:])

    request = b"\x04echohello"
    plain = frames.pack_stream_header(frames.STREAM_FIN, 0, 0) + request
    show("Frames of packet 5 of A: STREAM fin, stream 0, offset 0", plain)
    keys = KeyRing(established.send_key, established.receive_key, established.rekey_secret, True, chance(b"R"))
    nonce = pack_nonce(5)
    data = data_prefix(0, established.remote_index) + nonce[4:] + keys.sealer.encrypt(nonce, plain, None)
    show("The same as a DATA packet", data)
    show("... and on a circuit", circuit_header(CIRCUIT_ID) + data)
    show("What B answers if it has restarted meanwhile: STRANGER", stranger(INDEX_B, 5))

    show("ACK of packets 0 to 4, 7, 8 and 10, 1.5 ms late", frames.encode_ack([(10, 10), (7, 8), (0, 4)], 0.0015))
    show("RESET_STREAM of stream 0 after 10 bytes with code 7", frames.encode_reset_stream(0, 7, 10))
    show("STOP_SENDING of stream 0 with code 7", frames.encode_stop_sending(0, 7))
    show("DATAGRAM for 'echo'", frames.encode_datagram(b"echo", b"ping"))
    show("CLOSE", frames.encode_close(0, ""))

    window = encode_cbor([33554432, 1280, [[0, 16777216]]])
    show("CONTROL: stream window", frames.encode_control(frames.SUBPROTOCOL_STREAM_WINDOW, window))
    services = (1).to_bytes(4, "big") + service_tag("echo")
    show("CONTROL: services", frames.encode_control(frames.SUBPROTOCOL_SERVICES, services))
    rekey = keys.start_renewal()
    assert rekey is not None
    show("CONTROL: rekey, of A", frames.encode_control(frames.SUBPROTOCOL_REKEY, rekey))
    ask = OpenCircuit(CIRCUIT_ID, B.peer_id, 8, data).encode()
    show("CONTROL: circuit, open to B, with the DATA packet as its first", control(ask))
    show("CONTROL: circuit, refused", control(CircuitRefused(CIRCUIT_ID, RefusalReason.NOT_HERE).encode()))
    show("CONTROL: circuit, close", control(CloseCircuit(CIRCUIT_ID).encode()))
    announcement = Announcement(
        peer_id=A.peer_id, sequence=1, lifetime_s=600, tags=("nat:unknown", "relay-capable"), relays=(B.peer_id,)
    )
    show("Body of an announcement of A", announcement.encode_body())
    show("What A signs: this, then the body", SIGNATURE_CONTEXT)
    envelope = announcement.sign(A.sign).encode()
    show("CONTROL: announcement", frames.encode_control(frames.SUBPROTOCOL_ANNOUNCEMENT, envelope))


def control(payload: bytes) -> bytes:
    return frames.encode_control(frames.SUBPROTOCOL_CIRCUIT, payload)


if __name__ == "__main__":
    main()
