from __future__ import annotations

import contextlib
import functools

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.identity import Identity, PeerId
from netmesh_trio.routing import Announcement, Envelope, withdrawal
from netmesh_trio.routing.announcements import MAX_ENVELOPE_SIZE, SIGNATURE_CONTEXT
from netmesh_trio.wire.errors import DecodeError


@functools.cache
def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    return identity(number).peer_id


ME = identity(1)
V4 = Address("203.0.113.7", 4650)
V6 = Address("2001:db8::7", 4650)
FULL = Announcement(
    peer_id=ME.peer_id,
    sequence=2**64 - 1,
    lifetime_s=600,
    tags=("nat:cone", "relay-capable", "nat-traversal"),
    reflex=V4,
    reflex6=V6,
    relays=tuple(peer(number) for number in range(2, 18)),
)
BODY = [1, bytes(ME.peer_id), 7, 600, ["nat:open"], V4.pack(), V6.pack(), [bytes(peer(2))]]


def test_round_trip() -> None:
    envelope = FULL.sign(ME.sign)
    assert envelope.verify()
    data = envelope.encode()
    assert len(data) <= MAX_ENVELOPE_SIZE
    assert Envelope.decode_untrusted(data) == envelope
    assert (FULL.relay_capable, FULL.is_withdrawal) == (True, False)


@given(
    sequence=st.integers(0, 2**64 - 1),
    lifetime=st.integers(1, 3600),
    tags=st.lists(st.from_regex(r"[a-z0-9][a-z0-9:.\-]{0,30}", fullmatch=True), unique=True, max_size=8),
    relays=st.sets(st.integers(2, 12), max_size=8),
    reflex=st.none() | st.just(V4),
    reflex6=st.none() | st.just(V6),
)
def test_any_announcement_round_trips(
    sequence: int,
    lifetime: int,
    tags: list[str],
    relays: set[int],
    reflex: Address | None,
    reflex6: Address | None,
) -> None:
    announcement = Announcement(
        peer_id=ME.peer_id,
        sequence=sequence,
        lifetime_s=lifetime,
        tags=tuple(tags),
        reflex=reflex,
        reflex6=reflex6,
        relays=tuple(peer(number) for number in relays),
    )
    envelope = announcement.sign(ME.sign)
    assert Envelope.decode_untrusted(envelope.encode()) == envelope


def test_bytes_that_are_signed() -> None:
    announcement = Announcement(
        peer_id=ME.peer_id,
        sequence=7,
        lifetime_s=600,
        tags=("nat:open",),
        reflex=V4,
        relays=(peer(2),),
    )
    body = bytes.fromhex("8801 5820") + bytes(ME.peer_id) + bytes.fromhex("07 190258")
    body += b"\x81\x68nat:open" + b"\x53" + V4.pack() + b"\xf6" + b"\x81\x58\x20" + bytes(peer(2))
    assert announcement.encode_body() == body
    envelope = announcement.sign(ME.sign)
    assert envelope.signature == ME.sign(b"netmesh-trio announcement 1" + body)
    assert envelope.encode() == (b"\x85\x01\x00\x00\x58" + bytes([len(body)]) + body + b"\x58\x40" + envelope.signature)


def test_age_is_rounded_up_and_hops_end() -> None:
    envelope = FULL.sign(ME.sign)
    moved = envelope.passed_on(age=1.0001)
    assert moved is not None
    assert moved.hops == 1
    assert Envelope.decode_untrusted(moved.encode()).age == 1.001
    assert moved.verify()
    hops = 1
    while (further := moved.passed_on(age=0.0)) is not None:
        moved = further
        hops += 1
    assert hops == 16


def test_what_is_signed_cannot_be_changed() -> None:
    envelope = FULL.sign(ME.sign)
    other = withdrawal(ME.peer_id, 2**64 - 1).sign(ME.sign)
    assert not Envelope(FULL, other.body, envelope.signature, 0.0, 0).verify()
    assert not Envelope(FULL, envelope.body, bytes(64), 0.0, 0).verify()
    assert not Envelope(FULL, envelope.body, ME.sign(envelope.body), 0.0, 0).verify()
    assert Envelope(FULL, envelope.body, ME.sign(SIGNATURE_CONTEXT + envelope.body), 0.0, 0).verify()


def test_withdrawal() -> None:
    envelope = withdrawal(ME.peer_id, 8).sign(ME.sign)
    assert envelope.announcement.is_withdrawal
    assert Envelope.decode_untrusted(envelope.encode()) == envelope


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", -1),
        ("sequence", 2**64),
        ("lifetime_s", -1),
        ("lifetime_s", 3601),
        ("lifetime_s", 0),  # with relays
        ("tags", tuple(f"tag{number}" for number in range(17))),
        ("tags", ("a", "a")),
        ("tags", ("",)),
        ("tags", ("a" * 33,)),
        ("tags", ("A",)),
        ("tags", ("\n",)),
        ("tags", ("a\n",)),
        ("reflex", V6),
        ("reflex6", V4),
        ("reflex", Address("224.0.0.1", 5)),
        ("reflex6", Address("::", 5)),
        ("relays", tuple(peer(number) for number in range(2, 19))),
        ("relays", (peer(2), peer(2))),
        ("relays", (ME.peer_id,)),
    ],
)
def test_bad_values_are_refused_here_and_from_the_network(field: str, value: object) -> None:
    arguments: dict[str, object] = {
        "peer_id": ME.peer_id,
        "sequence": 7,
        "relays": (peer(2),),
        field: value,
    }
    with pytest.raises(ValueError):
        Announcement(**arguments)  # type: ignore[arg-type]
    names = ["version", "peer_id", "sequence", "lifetime_s", "tags", "reflex", "reflex6", "relays"]
    fields: list[object] = list(BODY)
    wire = value
    if isinstance(value, Address):
        wire = value.pack()
    elif isinstance(value, tuple):
        wire = [bytes(item) if isinstance(item, PeerId) else item for item in value]
    fields[names.index(field)] = wire
    assert Announcement.decode_body_untrusted(cbor2.dumps(BODY)).sequence == 7
    with pytest.raises(DecodeError):
        Announcement.decode_body_untrusted(cbor2.dumps(fields))


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 2), (0, True), (1, bytes(31)), (2, "7"), (3, None), (4, "tag"), (4, [b"tag"]), (5, b"")]
    + [(5, V4.pack() + b"\0"), (6, 5), (7, None), (7, [bytes(33)]), (7, ["text"])],
)
def test_bodies_of_the_wrong_shape(index: int, value: object) -> None:
    fields: list[object] = list(BODY)
    fields[index] = value
    with pytest.raises(DecodeError):
        Announcement.decode_body_untrusted(cbor2.dumps(fields))


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 2), (1, -1), (1, 10_800_001), (1, 1.5), (2, 17), (2, -1), (3, b""), (3, "text")]
    + [(3, b"\x80"), (4, bytes(63)), (4, bytes(65)), (4, None)],
)
def test_envelopes_of_the_wrong_shape(index: int, value: object) -> None:
    fields: list[object] = [1, 0, 0, cbor2.dumps(BODY), bytes(64)]
    assert Envelope.decode_untrusted(cbor2.dumps(fields)).announcement.sequence == 7
    fields[index] = value
    with pytest.raises(DecodeError):
        Envelope.decode_untrusted(cbor2.dumps(fields))


def test_size_is_bounded() -> None:
    tags = tuple(f"{number:032}" for number in range(16))
    long = Announcement(peer_id=ME.peer_id, sequence=1, tags=tags, relays=FULL.relays)
    with pytest.raises(ValueError, match="at most 1000"):
        long.sign(ME.sign)
    with pytest.raises(DecodeError):
        Envelope.decode_untrusted(cbor2.dumps([1, 0, 0, long.encode_body(), bytes(64)]))


SOUND = FULL.sign(ME.sign).encode()


@given(
    st.binary(max_size=100)
    | st.tuples(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda change: SOUND[: change[0]] + change[1] + SOUND[change[0] + len(change[1]) :]
    )
    | st.integers(0, len(SOUND)).map(lambda end: SOUND[:end])
)
def test_any_bytes_give_an_envelope_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert Envelope.decode_untrusted(data).encode() == data
