"""Outer packets, byte by byte."""

from __future__ import annotations

from netmesh_trio.wire import packets


def test_layout() -> None:
    assert packets.data_prefix(0x105, 0x0A0B0C0D).hex() == "04050000" + "0d0c0b0a"
    assert packets.circuit_header(bytes(range(8))).hex() == "05000000" + "0001020304050607"
    assert packets.stranger(0x0A0B0C0D, 2).hex() == "06000000" + "0d0c0b0a" + "0200000000000000"
    assert len(packets.circuit_header(bytes(8))) == packets.CIRCUIT_HEADER_SIZE
    assert len(packets.stranger(1, 2)) == packets.STRANGER_SIZE
    assert len(packets.data_prefix(0, 0)) + 8 == packets.DATA_HEADER_SIZE


def test_a_data_header_is_read_in_one_go() -> None:
    packet = b"??" + packets.data_prefix(3, 77) + (1 << 63).to_bytes(8, "little") + b"ciphertext"
    prefix, counter = packets.unpack_data_header(packet, 2)
    assert prefix == int.from_bytes(packets.data_prefix(3, 77), "little")
    assert counter == 1 << 63


def test_an_answer_to_a_stranger_is_not_larger_than_its_packet() -> None:
    assert packets.STRANGER_SIZE <= packets.DATA_OVERHEAD
