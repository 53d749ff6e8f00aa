from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap.upnp.soap import Fault, read_answer_untrusted, soap_call
from netmesh_trio.traversal.portmap.upnp.tree import read_tree_untrusted
from netmesh_trio.wire.errors import DecodeError

TYPE = "urn:schemas-upnp-org:service:WANIPConnection:1"


def envelope(body: str, prefix: str = "s") -> bytes:
    """A SOAP answer."""
    return (
        f'<?xml version="1.0"?>\r\n<{prefix}:Envelope xmlns:{prefix}="http://schemas.xmlsoap.org/soap/envelope/" '
        f'{prefix}:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><{prefix}:Body>{body}</{prefix}:Body>'
        f"</{prefix}:Envelope>"
    ).encode()


def response(action: str, inner: str) -> bytes:
    return envelope(f'<u:{action}Response xmlns:u="{TYPE}">{inner}</u:{action}Response>')


def fault(code: str, description: str = "", prefix: str = "s") -> bytes:
    return envelope(
        f"<{prefix}:Fault><faultcode>{prefix}:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
        f"<errorDescription>{description}</errorDescription></UPnPError></detail></{prefix}:Fault>",
        prefix,
    )


def test_a_call() -> None:
    assert soap_call(TYPE, "Do", {"NewA": "", "NewB": 4650, "NewC": "<&>"}) == (
        b'<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        b's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        b'<u:Do xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"><NewA></NewA><NewB>4650</NewB>'
        b"<NewC>&lt;&amp;&gt;</NewC></u:Do></s:Body></s:Envelope>\r\n"
    )


@pytest.mark.parametrize(
    ("document", "results"),
    [
        (response("Do", "<NewA>1</NewA><NewB> 2 </NewB>"), {"NewA": "1", "NewB": "2"}),
        (response("Do", ""), {}),
        (envelope(f'<u:DoResponse xmlns:u="{TYPE}"/>'), {}),
        (envelope("<DoResponse><NewA>1</NewA></DoResponse>", "SOAP-ENV"), {"NewA": "1"}),
        (response("Do", "<NewA>1</NewA><NewA>2</NewA>"), {"NewA": "1"}),
        (response("Do", "<NewA/>"), {"NewA": ""}),
    ],
)
def test_results(document: bytes, results: dict[str, str]) -> None:
    assert read_answer_untrusted(document, "Do") == results


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (fault("718", "ConflictInMappingEntry"), Fault(718, "ConflictInMappingEntry")),
        (fault("725", "Only\x0apermanent", "SOAP"), Fault(725, "Only permanent")),
        (fault(" 402 "), Fault(402)),
        (fault("-1", "What?"), Fault(0, "UPnPError")),
        (fault("9" * 5000), Fault(0, "UPnPError")),
        (envelope("<s:Fault><faultcode>s:Client</faultcode><faultstring>No</faultstring></s:Fault>"), Fault(0, "No")),
        (envelope("<s:Fault/>"), Fault(0)),
    ],
)
def test_faults(document: bytes, expected: Fault) -> None:
    assert read_answer_untrusted(document, "Do") == expected


def test_how_a_fault_reads() -> None:
    assert str(Fault(718, "Conflict")) == "718 Conflict"
    assert str(Fault(718)) == "718"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html/>",
        b"<Envelope/>",
        b"<Envelope><Header/></Envelope>",
        envelope(""),
        envelope("some text"),
        response("DoNot", ""),
        envelope("<u:Do/>"),
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "ee">]>' + response("Do", "&e;")[21:],
    ],
)
def test_what_is_neither(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_answer_untrusted(document, "Do")


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z]{1,12}", fullmatch=True), st.text(max_size=30) | st.integers(), max_size=5)
)
def test_values_cannot_break_out_of_a_call(arguments: dict[str, str | int]) -> None:
    try:
        tree = read_tree_untrusted(soap_call(TYPE, "Do", arguments))
    except (DecodeError, UnicodeEncodeError):  # characters that XML has not
        return
    call = tree.children[0].children[0]
    assert [child.name for child in call.children] == list(arguments)
    assert all(not child.children for child in call.children)


@given(
    st.binary(max_size=200),
    st.integers(0, 600),
    st.sampled_from([response("Do", "<NewA>1</NewA>"), fault("718", "Conflict"), envelope("")]),
)
def test_any_bytes_give_results_a_fault_or_the_error(noise: bytes, at: int, document: bytes) -> None:
    for tampered in (noise, document[:at] + noise + document[at:], document[:at] + noise + document[at + len(noise) :]):
        try:
            answer = read_answer_untrusted(tampered, "Do")
        except DecodeError:
            continue
        assert isinstance(answer, dict | Fault)
