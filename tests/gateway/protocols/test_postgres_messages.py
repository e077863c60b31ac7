"""Message codecs: what is encoded decodes to itself, and nothing else crashes the decoder."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Parse, Target
from gateway.protocols.postgres.frames import ProtocolViolation, split_frames
from gateway.protocols.postgres.startup import Startup, decode_packet, encode_startup, packet_length

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30)
DECODERS = [
    client.decode_query,
    client.decode_parse,
    client.decode_bind,
    client.decode_target,
    client.decode_execute,
    server.decode_row_description,
    server.decode_copy_response,
    server.decode_parameter_status,
    server.decode_key_data,
]


def body(message: bytes) -> bytes:
    return split_frames(message)[0][1]


@given(name=TEXT, text=TEXT, types=st.lists(st.integers(0, 2**32 - 1), max_size=5))
def test_parse_survives_the_round_trip(name: str, text: str, types: list[int]) -> None:
    message = Parse(name, text, tuple(types))

    assert client.decode_parse(body(client.encode_parse(message))) == message


@given(
    portal=TEXT,
    statement=TEXT,
    values=st.lists(st.none() | st.binary(max_size=20), max_size=5),
    formats=st.sampled_from([(), (0,), (1,)]),
)
def test_bind_survives_the_round_trip(
    portal: str, statement: str, values: list[bytes | None], formats: tuple[int, ...]
) -> None:
    message = Bind(portal, statement, formats, tuple(values), formats)

    assert client.decode_bind(body(client.encode_bind(message))) == message


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_decoders_only_ever_raise_protocol_violations(decode, data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode(data)


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0\0\0\1\0\0",
        b"p\0s\0\0\1\0\7\0\0\0\0",
        b"p\0s\0\0\2\0\0\0\0\0\1\0\0\0\0\0\0",
        b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0",
    ],
)
def test_broken_binds_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        client.decode_bind(raw)


def test_targets_are_statements_or_portals() -> None:
    assert client.decode_target(b"Sname\0") == Target("S", "name")
    with pytest.raises(ProtocolViolation):
        client.decode_target(b"Xname\0")


def test_startup_options_are_split_like_the_server_splits_them() -> None:
    packet = encode_startup({"user": "u", "options": r"-c statement_timeout=5 --DateStyle=ISO,\ MDY -cjit=off"})

    assert packet_length(packet) == len(packet)
    assert decode_packet(packet) == Startup(
        0, "u", "u", {"statement_timeout": "5", "datestyle": "ISO, MDY", "jit": "off"}
    )


@given(data=st.binary(min_size=8, max_size=80))
@settings(deadline=None)
def test_startup_packets_only_ever_raise_protocol_violations(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode_packet(data)
