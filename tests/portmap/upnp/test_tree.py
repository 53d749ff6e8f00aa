from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap.upnp.tree import MAX_DEPTH, MAX_ELEMENTS, Element, read_tree_untrusted
from netmesh_trio.wire.errors import DecodeError


def test_names_lose_their_prefix_and_texts_their_blanks() -> None:
    document = b'<?xml version="1.0"?>\n<a:r xmlns:a="x" q="1">\n one<b> two &amp; <![CDATA[<3>]]></b> 4 </a:r>'
    tree = read_tree_untrusted(document)
    assert tree == Element("r", "one 4", (Element("b", "two & <3>", ()),))
    assert tree.text_of("b") == "two & <3>"
    assert tree.text_of("c") == ""
    assert tree.first("c") is None
    assert [element.name for element in tree.walk()] == ["r", "b"]


@pytest.mark.parametrize(
    "document",
    [
        b"<r>ok</r>",
        b"\xef\xbb\xbf<r>ok</r>",
        b"\r\n<r>ok</r>\r\n\0\0",
        b"<!-- of a router, not <!DOCTYPE r> --><r>o<!-- -->k</r>",
        b"<x:r>ok</x:r>",  # not declared
        b'<?xml version="1.0" encoding="gb2312"?><r>ok</r>',
        b'<?xml version="1.0" encoding="no-such"?><r>ok</r>',
        b'<?xml version="1.0" encoding="utf-16"?><r>ok</r>',
    ],
)
def test_what_routers_send(document: bytes) -> None:
    tree = read_tree_untrusted(document)
    assert (tree.name, tree.text) == ("r", "ok")


def test_what_is_not_utf8_is_latin1() -> None:
    assert read_tree_untrusted(b'<?xml version="1.0" encoding="utf-8"?><r>Stra\xdfe</r>').text == "Straße"


def laughs(levels: int, times: int) -> bytes:
    """Entities that expand to ``times`` to the power of ``levels``."""
    lines = ['<!ENTITY e0 "ha">']
    lines += [f'<!ENTITY e{n} "{f"&e{n - 1};" * times}">' for n in range(1, levels + 1)]
    return f"<?xml version='1.0'?><!DOCTYPE r [{''.join(lines)}]><r>&e{levels};</r>".encode()


@pytest.mark.parametrize(
    "document",
    [
        laughs(10, 10),
        laughs(1, 20000),
        b'<!DOCTYPE r SYSTEM "http://127.0.0.1:1/evil.dtd"><r/>',
        b'<!DOCTYPE r [<!ENTITY f SYSTEM "file:///etc/passwd">]><r>&f;</r>',
        b'<!DOCTYPE r PUBLIC "-//W3C//DTD" "x"><r/>',
        b"<!doctype r><r/>",
        b"<r><!ELEMENT r ANY></r>",
        laughs(3, 3).decode().encode("utf-16"),
        laughs(3, 3).decode().encode("utf-7"),
        b'<?xml version="1.0" encoding="utf-7"?>' + laughs(3, 3)[21:].decode().encode("utf-7"),
        b"\xff" + laughs(10, 10),
    ],
)
def test_a_document_type_is_refused_before_it_does_anything(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_tree_untrusted(document)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\0",
        b"no",
        b"<r>",
        b"</r>",
        b"<r></s>",
        b"<r/><r/>",
        b"<r>&undeclared;</r>",
        b"<r>&#0;</r>",
        b"<r>a & b</r>",
        b"<r>\0</r>",
        b"<r a='1' a='2'/>",
        b"<html><body><p>Please log in<br></body></html>",
    ],
)
def test_what_is_not_well_formed(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_tree_untrusted(document)


def nested(depth: int) -> bytes:
    return b"<r>" * depth + b"</r>" * depth


def test_the_limits() -> None:
    assert sum(1 for _ in read_tree_untrusted(nested(MAX_DEPTH)).walk()) == MAX_DEPTH
    assert len(read_tree_untrusted(b"<r>" + b"<x/>" * (MAX_ELEMENTS - 1) + b"</r>").children) == MAX_ELEMENTS - 1
    for too_much in (nested(MAX_DEPTH + 1), nested(100_000), b"<r>" + b"<x/>" * MAX_ELEMENTS + b"</r>"):
        with pytest.raises(DecodeError, match="too many"):
            read_tree_untrusted(too_much)


@given(st.binary(max_size=300) | st.text(alphabet="<>/&;!?[]-=\"' ab:CDATx", max_size=200).map(str.encode))
def test_any_bytes_give_a_tree_or_the_error(document: bytes) -> None:
    try:
        tree = read_tree_untrusted(document)
    except DecodeError:
        return
    assert all(element.name or element.text is not None for element in tree.walk())


@given(st.binary(min_size=1, max_size=40), st.integers(0, 400))
def test_a_document_that_was_tampered_with(noise: bytes, at: int) -> None:
    document = b'<?xml version="1.0"?><root xmlns="urn:x"><device><serviceList><service/></serviceList></device></root>'
    with contextlib.suppress(DecodeError):
        read_tree_untrusted(document[:at] + noise + document[at + len(noise) :])
