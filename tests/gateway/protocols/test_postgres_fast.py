"""The compiled inner loops and the Python ones: the same bytes, the same counts, the same refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fingerprint import skeleton
from gateway.protocols.postgres import client
from gateway.protocols.postgres.datarow import ColumnMask, count_rows_python, mask_rows_python
from gateway.protocols.postgres.express import (
    answered_tag,
    blank_integers_python,
    describing,
    has_rows,
    read_answer_python,
    read_extended_python,
    read_query_python,
)
from gateway.protocols.postgres.frames import ProtocolViolation, frame, scan_frames_python, split_frames
from gateway.protocols.postgres.server import encode_data_row
from masking.detectors.scan import Depth, compile_scan
from masking.engines.registry import compile_mask
from masking.engines.types import ConstantMask, MaskOptions, target_for
from tests.turn import examples

fast = pytest.importorskip("gateway.protocols.postgres._fast", reason="no C compiler or no Cython on this machine")

OPTIONS = MaskOptions(data_class="ssn", keep=4, this_year=2026, key=b"k" * 32)
USUAL = st.sampled_from(
    [b"Boston", b"541-82-6637", b"02139", b"03601-1234", b"1931-03-07", b"2024-01-02 03:04:05.678+00", b"4711",
     b"\0\0\x12\x67", b"\xff\xff\xff\x80\0\0\0\0", b"6ba7b810-9dad-11d1-80b4-00c04fd430c8", b"MRN 0012345"]
)  # fmt: skip
ROWS = st.lists(st.lists(st.none() | st.binary(max_size=60) | USUAL, min_size=4, max_size=4), max_size=15)
CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)
MASKS = [(0, lambda value: b"[REDACTED]", False), (3, lambda value: value and value[:2], True)]
CONSTANTS = st.builds(ConstantMask, st.none() | st.binary(max_size=300), keeps_null=st.booleans())
COMPILED = st.sampled_from(
    [
        compile_scan(target_for(type_oid=25, binary=False), Depth.STORED),
        *(
            compile_mask(technique, target=target_for(type_oid=oid, binary=binary), options=OPTIONS)
            for technique in ("hash", "partial", "year", "zip3")
            for oid in (20, 23, 25, 1042, 1082, 1184, 2950)
            for binary in (False, True)
        ),
    ]
)
FUNCTIONS = (
    COMPILED | CONSTANTS | st.sampled_from([mask for _, mask, _ in MASKS]) | st.just(lambda value: value and value * 9)
)


@st.composite
def some_masks(draw: st.DrawFn) -> list[ColumnMask]:
    columns = sorted(draw(st.sets(st.integers(0, 3))))
    return [(column, draw(FUNCTIONS), draw(st.booleans())) for column in columns]


def outcome(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    try:
        return function(*args, **keywords)
    except ProtocolViolation:
        return ProtocolViolation


def altered(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        if changed:
            changed[place % len(changed)] = value
    return bytes(changed)


@settings(max_examples=examples(400), deadline=None)
@given(
    rows=ROWS,
    changes=CHANGES,
    cut=st.integers(0, 2000),
    tail=st.sampled_from([b"", frame(b"C", b"SELECT 1\0")]),
    masks=some_masks(),
)
def test_rows_are_walked_and_masked_alike(
    rows: list[list[bytes | None]], changes: list[tuple[int, int]], cut: int, tail: bytes, masks: list[ColumnMask]
) -> None:
    data = altered(b"".join(encode_data_row(row) for row in rows), changes) + tail
    end = min(cut, len(data)) if changes else len(data)
    ours, theirs = [0] * 4, [0] * 4

    assert outcome(fast.count_rows, data, 0, end) == outcome(count_rows_python, data, 0, end)
    compiled = outcome(fast.mask_rows, data, 0, end, width=4, masks=masks, counts=ours)
    assert compiled == outcome(mask_rows_python, data, 0, end, width=4, masks=masks, counts=theirs)
    assert compiled is ProtocolViolation or ours == theirs


@settings(max_examples=examples(400), deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=40), max_size=10),
    changes=CHANGES,
    limit=st.integers(4, 60),
    at=st.integers(0, 90),
    stop=st.none() | st.integers(0, 500),
)
def test_frames_are_scanned_alike(
    bodies: list[bytes], changes: list[tuple[int, int]], limit: int, at: int, stop: int | None
) -> None:
    data = altered(b"".join(frame(b"D", body) for body in bodies), changes)

    assert outcome(fast.scan_frames, data, limit) == outcome(scan_frames_python, data, limit)
    assert outcome(fast.scan_frames, data, limit, at, stop) == outcome(scan_frames_python, data, limit, at, stop)


@pytest.mark.parametrize("mask_rows", [fast.mask_rows, mask_rows_python])
def test_mask_without_a_column_is_refused(mask_rows: Callable[..., Any]) -> None:
    data = encode_data_row([b"123-45-6789", b"x"])

    with pytest.raises(ProtocolViolation):
        mask_rows(data, 0, len(data), width=2, masks=[(2, lambda _: None, False)], counts=[0, 0, 0])


@pytest.mark.parametrize("length", [-2, 0x7FFFFFFF, 12])
def test_length_that_points_out_of_its_row_is_refused(length: int) -> None:
    data = frame(b"D", struct.pack("!Hi", 1, length) + b"123-45-6789")

    with pytest.raises(ProtocolViolation):
        fast.mask_rows(data, 0, len(data), width=1, masks=[], counts=[0])


def test_mask_that_fails_passes_on_its_error_and_no_row() -> None:
    def broken(value: bytes | None) -> bytes | None:
        raise RuntimeError

    data = encode_data_row([b"123-45-6789"])

    with pytest.raises(RuntimeError):
        fast.mask_rows(data, 0, len(data), width=1, masks=[(0, broken, False)], counts=[0])


VALUES = st.lists(st.none() | st.binary(max_size=30), max_size=5)
FORMATS = st.lists(st.integers(0, 2), max_size=5)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    bound = client.Bind(draw(st.sampled_from(["", "", "p"])), draw(NAMES), tuple(draw(FORMATS)),
                        tuple(draw(VALUES)), tuple(draw(FORMATS)))  # fmt: skip
    parsed = client.Parse(draw(st.sampled_from(["", "", "s"])), draw(NAMES), (23, 25)[: draw(st.integers(0, 2))])
    first = client.encode_parse(parsed) if draw(st.booleans()) else b""
    described = client.encode_describe(client.Target("P", "")) if draw(st.booleans()) else b""
    rest = described + client.encode_execute(client.Execute("", draw(st.sampled_from([0, 1, 1 << 20]))))
    return first + client.encode_bind(bound) + rest + client.SYNC_FRAME


@settings(max_examples=examples(600), deadline=None)
@given(data=requests(), changes=CHANGES, cut=st.integers(0, 400))
def test_requests_are_read_alike_and_as_frame_by_frame(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = altered(data, changes)
    data = data if not changes or cut > len(data) else data[:cut]

    read = read_extended_python(data)

    assert fast.read_extended(data) == read
    if read is not None and is_text(read[0] + (read[1] or b"")):  # the lane decodes both before it goes on
        assert frame_by_frame(data) == read


def is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode() or True)
    except UnicodeDecodeError:
        return False


def frame_by_frame(data: bytes) -> Any:
    """What the ordinary decoders make of a request that the express reading accepted."""
    frames = split_frames(data)
    *parsed, (_, bound) = [sent for sent in frames if chr(sent[0]) in "PB"]
    *described, (_, executed), (_, synced) = frames[len(parsed) + 1 :]
    bind, text, types = client.decode_bind(bound), None, ()
    if parsed:
        parse = client.decode_parse(parsed[0][1])
        assert parse.name == bind.statement == ""
        text, types = parse.text.encode(), parse.types
    assert "".join(chr(kind) for kind, _ in frames) == "P" * len(parsed) + "B" + "D" * len(described) + "ES"
    assert [client.decode_target(body) for _, body in described] == [client.Target("P", "")] * len(described)
    assert (client.decode_execute(executed).portal, bind.portal, synced) == ("", "", b"")
    whole = data if described else describing(data)
    assert split_frames(whole) == [*frames[:-2], *([] if described else [(0x44, b"P\0")]), *frames[-2:]]
    bound_to = (bind.statement.encode(), text, types, bind.parameter_formats, bind.parameters, bind.result_formats)
    return *bound_to, bool(described)


@settings(max_examples=examples(300), deadline=None)
@given(text=st.binary(max_size=40), changes=CHANGES)
def test_queries_are_read_alike_and_as_frame_by_frame(text: bytes, changes: list[tuple[int, int]]) -> None:
    data = altered(frame(b"Q", text + b"\0"), changes)

    read = read_query_python(data)

    assert fast.read_query(data) == read
    if read is not None:
        assert split_frames(data) == [(client.QUERY, read + b"\0")]


PIECES = st.sampled_from(
    [*"=<> (,);\n.'x_é", "0", "12", "123456789", "1234567890", "\u0661", "\u00b2", " 7 ", "=42;", ",5)", " 9\n", "$1"]
)


@settings(max_examples=examples(600), deadline=None)
@given(pieces=st.lists(PIECES, max_size=12))
def test_shapes_of_texts_are_alike_and_the_analysis_own(pieces: list[str]) -> None:
    text = "".join(pieces)

    shape = blank_integers_python(text.encode())

    assert fast.blank_integers(text.encode()) == shape
    assert shape == skeleton(text).encode()


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    between = draw(st.sampled_from([b"", b"", frame(b"N", b"SNOTICE\0\0"), frame(b"S", b"a\0b\0")]))
    begin = draw(st.sampled_from([frame(b"1") + frame(b"2"), frame(b"2"), b""]))
    ended = st.binary(max_size=12).map(lambda tag: frame(b"C", tag + b"\0")) | st.just(frame(b"s"))
    described = draw(st.sampled_from([frame(b"T", b"\0\0"), frame(b"T", b"\0\0"), frame(b"n"), b""]))
    rows = b"".join(map(encode_data_row, draw(ROWS))) if described[:1] == b"T" or draw(st.booleans()) else b""
    data = begin + described + between + rows + draw(ended)
    return data + frame(b"Z", draw(st.sampled_from([b"I", b"T", b"E", b""])))


@settings(max_examples=examples(600), deadline=None)
@given(data=answers(), begin=st.sampled_from(["12", "2", "1", ""]), changes=CHANGES)
def test_answers_are_read_alike_and_are_whole(data: bytes, begin: str, changes: list[tuple[int, int]]) -> None:
    parsed, bound = "1" in begin, "2" in begin
    data = altered(data, changes)
    whole = outcome(scan_frames_python, data, 1 << 20)
    if whole is ProtocolViolation or whole[0] != len(data):
        return  # the relay only ever gets whole frames

    read = read_answer_python(data, parsed=parsed, bound=bound)

    assert fast.read_answer(data, parsed=parsed, bound=bound) == read
    if read is not None:
        description, rows, at, stop, state = read
        found = "".join(chr(kind) for kind, _ in split_frames(data))
        end = chr(data[at])
        described = {rows: "", rows - 5: "n"}.get(description, "") if chr(data[description]) != "T" else "T"
        assert found == begin + described + "D" * found.count("D") + end + "Z"
        assert described == "T" or ("D" not in found and end == "C" and (described == "n") <= bound)
        assert has_rows(data, description) == (described == "T")
        assert (data[stop], state) == (0x5A, data[-1])
        tag = data[at + 5 : stop - 1].decode("utf-8", "replace")
        assert answered_tag(data, read) == ("SUSPENDED" if end == "s" else tag)
        assert data[rows:at] == b"".join(frame(b"D", body) for kind, body in split_frames(data) if kind == 0x44)
