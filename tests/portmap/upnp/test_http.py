from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap.upnp.http import MAX_HEAD, HttpAnswer, HttpExchange
from netmesh_trio.traversal.portmap.upnp.locations import Location
from netmesh_trio.wire.errors import DecodeError

MAX_BODY = 1000


def get() -> HttpExchange:
    return HttpExchange("GET", Location("192.168.1.1", 5000, "/desc.xml?a=b"), headers={}, max_body=MAX_BODY)


def feed(*pieces: bytes, eof: bool = False) -> HttpAnswer | None:
    exchange = get()
    for piece in pieces:
        answer = exchange.feed(piece)
        if answer is not None:
            return answer
    return exchange.feed(b"") if eof else None


def test_requests() -> None:
    assert get().request == b"GET /desc.xml?a=b HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nConnection: close\r\n\r\n"
    post = HttpExchange(
        "POST", Location("fe80::1", 80, "/ctl"), headers={"SOAPAction": '"urn:x#Do"'}, body=b"<x/>", max_body=MAX_BODY
    )
    assert post.request == (
        b'POST /ctl HTTP/1.1\r\nHost: [fe80::1]:80\r\nConnection: close\r\nSOAPAction: "urn:x#Do"\r\n'
        b"Content-Length: 4\r\n\r\n<x/>"
    )


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", HttpAnswer(200, b"ok")),
        (OK + b"EXT:\r\nContent-Length: 0\r\nContent-Type: text/xml\r\n\r\n", HttpAnswer(200, b"")),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", HttpAnswer(500, b"no")),
        (b"HTTP/1.1 302 Found\r\nLocation: http://6.6.6.6/\r\nContent-Length: 0\r\n\r\n", HttpAnswer(302, b"")),
        (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", HttpAnswer(200, b"ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", HttpAnswer(200, b"ok")),
        (OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\nok", HttpAnswer(200, b"ok")),
        (OK + b"Content-Length: 2\r\n\r\nok and more", HttpAnswer(200, b"ok")),
        (OK + b"Content-Length: 1000\r\n\r\n" + bytes(1000), HttpAnswer(200, bytes(1000))),
    ],
)
def test_answers(raw: bytes, answer: HttpAnswer) -> None:
    assert feed(raw) == answer
    assert feed(*(raw[i : i + 1] for i in range(len(raw)))) == answer


def test_answers_that_end_with_the_connection() -> None:
    assert feed(b"HTTP/1.0 200 OK\r\n\r\no", b"k") is None
    assert feed(b"HTTP/1.0 200 OK\r\n\r\no", b"k", eof=True) == HttpAnswer(200, b"ok")


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"220 ftp.example ESMTP\r\n\r\n"],
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n"],
        [OK, b""],
        [OK + b"Content-Length: 5\r\n\r\nok", b""],
        [OK + b"Content-Length: -1\r\n\r\n"],
        [OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"],
        [OK + b"Content-Length: 99999999999999999999999\r\n\r\n"],
        [OK + b"bad header\r\n\r\n"],
        [OK + b"Transfer-Encoding: gzip\r\n\r\n"],
        [CHUNKED + b"xyz\r\n"],
        [CHUNKED + b"-1\r\n"],
        [CHUNKED + b"2\r\nokno\r\n"],
        [CHUNKED + b"2\r\nok\r\n", b""],
        [CHUNKED + b"F" * 30 + b"\r\n"],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
        [OK + b"Content-Length: 1001\r\n\r\n" + bytes(1001)],
    ],
)
def test_what_is_refused(pieces: Sequence[bytes]) -> None:
    with pytest.raises(DecodeError):
        feed(*pieces)


ENDLESS = {
    "status": (b"HTTP/1.1 200 ", b"x" * 1000),
    "header": (OK + b"A: ", b"x" * 1000),
    "headers": (OK, b"A: b\r\n" * 100),
    "body": (OK + b"\r\n", bytes(1000)),
    "length": (OK + b"Content-Length: 100000000\r\n\r\n", bytes(1000)),
    "chunks": (CHUNKED, b"1\r\nx\r\n" * 100),
    "chunk": (CHUNKED + b"5F5E100\r\n", bytes(1000)),
    "extension": (CHUNKED + b"1;", b"x" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"A: b\r\n" * 100),
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    "blank": (b"", b"\r\n" * 500),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_costs_no_more_than_the_limits(kind: str) -> None:
    start, piece = ENDLESS[kind]
    exchange = get()
    sent = 0
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):  # noqa: PT012 (how many pieces that takes is the question)
            while sent < 10 * MAX_HEAD:
                data = piece if sent else start + piece
                sent += len(data)
                exchange.feed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent <= MAX_BODY + MAX_HEAD + len(start) + len(piece)
    assert peak < 20 * MAX_HEAD


def test_what_is_compressed_stays_so() -> None:
    bomb = gzip.compress(bytes(500_000))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    assert feed(head + bomb) == HttpAnswer(200, bomb)


@given(st.lists(st.binary(max_size=100) | st.sampled_from([OK, CHUNKED, b"\r\n", b"2\r\nok\r\n", b"0\r\n\r\n"])))
def test_any_bytes_give_an_answer_or_the_error(pieces: list[bytes]) -> None:
    try:
        answer = feed(*pieces, eof=True)
    except DecodeError:
        return
    assert answer is None or 100 <= answer.status < 1000
