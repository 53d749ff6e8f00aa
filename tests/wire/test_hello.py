"""What the two sides tell each other in the handshake."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.hello import MAX_SERVICE_TAGS, Hello, service_tag

hellos = st.builds(
    Hello,
    boot_id=st.binary(min_size=8, max_size=8),
    max_datagram_size=st.integers(1200, 0xFFFF),
    session_window=st.integers(0, 0xFFFF_FFFF),
    stream_window=st.integers(0, 0xFFFF_FFFF),
    max_streams=st.integers(0, 0xFFFF),
    ordinal=st.integers(0, 0xFFFF_FFFF),
    service_tags=st.lists(st.binary(min_size=8, max_size=8), max_size=MAX_SERVICE_TAGS + 5).map(tuple),
    prefers_aes=st.booleans(),
)


@given(hellos, st.binary(max_size=20))
def test_round_trip_and_what_follows_is_ignored(hello: Hello, later: bytes) -> None:
    data = hello.encode()
    assert len(data) <= 400
    assert Hello.decode(data + later) == attrs.evolve(hello, service_tags=hello.service_tags[:MAX_SERVICE_TAGS])


def test_layout() -> None:
    hello = Hello(
        boot_id=b"bootboot", max_datagram_size=1400, session_window=2, stream_window=1, max_streams=3,
        ordinal=9, service_tags=(b"tag one ",), prefers_aes=True,
    )  # fmt: skip
    assert (
        hello.encode().hex()
        == "01"
        + b"bootboot".hex()
        + "0578"
        + "00000002"
        + "00000001"
        + "0003"
        + "00000009"
        + "01"
        + (b"tag one ".hex())
        + "01"
    )


def test_a_hello_without_flags_prefers_nothing() -> None:
    hello = Hello(boot_id=bytes(8), max_datagram_size=1400, session_window=2, stream_window=1, max_streams=3)
    assert Hello.decode(hello.encode()[:-1]) == hello
    assert not Hello.decode(hello.encode()[:-1] + b"\xfe").prefers_aes


@given(st.binary(max_size=60) | hellos.map(Hello.encode).map(lambda b: b[:-1]))
def test_any_bytes(data: bytes) -> None:
    try:
        hello = Hello.decode(data)
    except DecodeError:
        return
    assert hello.max_datagram_size >= 1200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02" + bytes(8) + b"\x05\x78" + bytes(15),
        b"\x01" + bytes(8) + b"\x04\xaf" + bytes(15),
        b"\x01" + bytes(8) + b"\x05\x78" + bytes(14) + b"\x01",
        b"\x01" + bytes(8) + b"\x05\x78" + bytes(14) + b"\x29" + bytes(8 * 41),
    ],
)
def test_what_is_not_a_hello_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Hello.decode(data)


def test_tags_tell_services_apart() -> None:
    assert len(service_tag("a")) == 8
    assert service_tag("a") != service_tag("b")
