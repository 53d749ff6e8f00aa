"""Two sessions talk without a socket, a task or a clock: bytes are handed over by a loop, and time is a number."""

import random
from collections.abc import Callable

from netmesh_trio import Address, Identity
from netmesh_trio.lowlevel import Established, Hello, Initiator, KeyRing, Reply, Responder, Session, SessionTimes

PUBLIC_MESH = bytes(32)
chance = random.Random(1)
DELAY = 0.05  # seconds, one way


def hello() -> Hello:
    return Hello(
        boot_id=chance.randbytes(8),
        max_datagram_size=1400,
        session_window=1 << 20,
        stream_window=1 << 18,
        max_streams=16,
    )


def session_of(result: Established, mine: Hello, random_bytes: Callable[[int], bytes], now: float) -> Session:
    keys = KeyRing(result.send_key, result.receive_key, result.rekey_secret, result.initiator, random_bytes)
    return Session(
        peer_id=result.peer_id,
        initiator=result.initiator,
        local_index=result.local_index,
        remote_index=result.remote_index,
        keys=keys,
        local=mine,
        remote=Hello.decode(result.hello),
        times=SessionTimes(),
        random_bytes=random_bytes,
        now=now,
    )


def shake_hands(alice: Identity, bob: Identity, now: float) -> tuple[Session, Session]:
    hellos = hello(), hello()
    initiator = Initiator(
        alice,
        bob.peer_id,
        network_key=PUBLIC_MESH,
        local_index=7,
        hello=hellos[0].encode(),
        random_bytes=chance.randbytes,
    )
    responder = Responder(
        bob,
        network_key=PUBLIC_MESH,
        hello=hellos[1].encode,
        allocate_index=lambda: 8,
        random_bytes=chance.randbytes,
    )
    answer = responder.receive_init(initiator.packet, b"192.0.2.1", now)
    assert isinstance(answer, Reply)
    at_alice = initiator.receive_response(answer.packet)
    return (
        session_of(at_alice, hellos[0], chance.randbytes, now),
        session_of(answer.established, hellos[1], chance.randbytes, now),
    )


def main() -> None:
    now = 0.0
    ends = shake_hands(Identity.generate(), Identity.generate(), now)
    # one path: a pair of socket number and address of the other side; the handshake proved it
    keys = (0, Address("192.0.2.2", 1)), (0, Address("192.0.2.1", 1))
    for end, key in zip(ends, keys, strict=True):
        end.validate(end.add_path(key, None, now), now)

    alice, bob = ends
    stream = alice.open_stream(priority=3)
    assert stream is not None
    alice.write(stream, b"hello without I/O")
    alice.finish(stream)

    under_way: list[tuple[float, int, bytes]] = []
    got = b""
    while not (stream in bob.streams.receiving and bob.streams.receiving[stream].at_end):
        for number, end in enumerate(ends):
            while (batch := end.transmit(now)) is not None:
                data = b"".join(batch.pieces)
                for at in range(0, len(data), batch.size):
                    under_way.append((now + DELAY, 1 - number, data[at : at + batch.size]))
            for event in end.events:
                print(f"{now * 1e3:5.0f} ms  {'ab'[number]}  {type(event).__name__}")
            end.events.clear()
        # the next thing that happens: a datagram arrives, or a deadline passes
        arrival = min(under_way, default=(float("inf"), 0, b""))
        now = min(arrival[0], *(end.next_deadline() for end in ends))
        if now == arrival[0]:
            under_way.remove(arrival)
            _, number, packet = arrival
            path = ends[number].add_path(keys[number], None, now)
            ends[number].receive(memoryview(packet), 0, len(packet), path, now)
        for end in ends:
            if end.next_deadline() <= now:
                end.on_timeout(now)
        if stream in bob.streams.receiving:
            got += bob.read(stream, 65536)
    print(got)
    assert got == b"hello without I/O"


if __name__ == "__main__":
    main()
