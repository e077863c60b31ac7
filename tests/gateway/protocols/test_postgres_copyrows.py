"""COPY rows in the three formats."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres import copyrows
from gateway.protocols.postgres.copyrows import BinaryCopyMasker, CsvCopyMasker, Run, TextCopyMasker
from gateway.protocols.postgres.datarow import ColumnMask
from gateway.protocols.postgres.frames import ProtocolViolation, frame
from masking.detectors.scan import Depth, compile_scan
from masking.engines.registry import compile_mask
from masking.engines.types import ConstantMask, MaskOptions, target_for
from tests.turn import examples


def mask(value: bytes | None) -> bytes | None:
    return None if value is None else b"<" + value + b">"


MASKS = [(1, mask, False)]


def test_text_rows_are_unescaped_masked_and_escaped() -> None:
    counts = [0, 0]
    masker = TextCopyMasker(width=2, masks=MASKS, counts=counts)

    assert masker.feed(rb"a\tb" + b"\t" + rb"x\\y\nz" + b"\n") == (rb"a\tb" + b"\t" + rb"<x\\y\nz>" + b"\n", 1)
    assert masker.feed(b"\\N\t\\N\n") == (b"\\N\t\\N\n", 1)
    assert counts == [0, 1]


def test_csv_rows_keep_their_quoting_and_null() -> None:
    masker = CsvCopyMasker(width=2, masks=MASKS, counts=[0, 0], header=True)

    assert masker.feed(b"a,b\n") == (b"a,b\n", 0)
    assert masker.feed(b'"1,""2""","x\n"\n') == (b'"1,""2""","<x\n>"\n', 1)
    assert masker.feed(b'1,""\n') == (b"1,<>\n", 1)
    assert masker.feed(b"1,\n") == (b"1,\n", 1)
    assert masker.feed(b'1,"say ""a,b"""\n') == (b'1,"<say ""a,b"">"\n', 1)


def test_binary_rows_between_header_and_trailer() -> None:
    header = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    row = struct.pack("!hi1si2s", 2, 1, b"a", 2, b"xy")
    masked = struct.pack("!hi1si4s", 2, 1, b"a", 4, b"<xy>")
    masker = BinaryCopyMasker(width=2, masks=MASKS, counts=[0, 0])

    assert masker.feed(header + row) == (header + masked, 1)
    assert masker.feed(b"\xff\xff") == (b"\xff\xff", 0)


@pytest.mark.parametrize("line", [b"one\n", b"a\tb\tc\n"])
def test_rows_of_another_width_are_never_let_through(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        TextCopyMasker(width=2, masks=MASKS, counts=[0, 0]).feed(line)


@pytest.mark.parametrize("line", [b'"open,b\n', b'"a"x,b\n'])
def test_csv_that_cannot_be_told_apart_is_never_let_through(line: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        CsvCopyMasker(width=2, masks=MASKS, counts=[0, 0]).feed(line)


@pytest.mark.parametrize(
    ("null", "delimiter", "value"),
    [
        ("", "\t", b""),
        ("541-82-6637", "\t", b"541-82-6637"),
        (r"a\\b\t", "|", b"a\\b\t"),
        (r"a\|b", "|", b"a|b"),
        (r"\N", "\t", None),
        (r"\x41", "\t", None),
        ("a\tb", "|", None),
        ("a\\", "\t", None),
    ],
)
def test_the_value_that_text_writes_as_null(null: str, delimiter: str, value: bytes | None) -> None:
    assert copyrows.value_like_null(delimiter=delimiter, null=null) == value


# --- runs of messages, compiled and not -------------------------------------------------------------------------------

OPTIONS = MaskOptions(data_class="ssn", keep=4, this_year=2026, key=b"k" * 32)
TEXT = target_for(type_oid=25, binary=False)
FUNCTIONS = st.sampled_from(
    [
        mask,
        lambda value: value and value[:2],
        lambda value: None,
        lambda value: b"a,b\t\"'\\\n",
        lambda value: b"",
        ConstantMask(b"[REDACTED]", keeps_null=True),
        ConstantMask(b'say "x,y"\t\\', keeps_null=False),
        ConstantMask(None, keeps_null=False),
        *(compile_mask(technique, target=TEXT, options=OPTIONS) for technique in ("partial", "hash", "year", "zip3")),
        compile_scan(TEXT, Depth.STORED),
    ]
)
VALUES = st.none() | st.binary(max_size=20) | st.text("abc\",\t\\|.N0123456789-\n\r'", max_size=12).map(str.encode)
USUAL = st.sampled_from([b"541-82-6637", b"Boston", b"1950-03-07", b"02139", b"\\.", b"\\N", b"", b"MRN 0012345"])
BODIES = st.binary(max_size=30) | st.text('ab",\t\\|\n', max_size=20).map(str.encode)
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)


@st.composite
def masks_of(draw: st.DrawFn) -> list[ColumnMask]:
    columns = sorted(draw(st.sets(st.integers(0, 2), min_size=1)))
    return [(column, draw(FUNCTIONS), draw(st.booleans())) for column in columns]


def text_row(values: list[bytes | None], masker: TextCopyMasker) -> bytes:
    return masker.delimiter.join(masker.null if value is None else masker.spelled(value) for value in values) + b"\n"


def csv_row(values: list[bytes | None], masker: CsvCopyMasker) -> bytes:
    return masker.delimiter.join(masker.null if value is None else masker.spelled(value) for value in values) + b"\n"


def binary_row(values: list[bytes | None], _masker: object) -> bytes:
    fields = (struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values)
    return struct.pack("!h", len(values)) + b"".join(fields)


MAKES = [
    (TextCopyMasker, {}, text_row),
    (TextCopyMasker, {"delimiter": "|", "null": "", "header": True}, text_row),
    (CsvCopyMasker, {}, csv_row),
    (CsvCopyMasker, {"delimiter": ";", "null": "\\N", "quote": "'", "escape": "\\", "header": True}, csv_row),
    (BinaryCopyMasker, {}, binary_row),
]


def outcome(run: Run, data: bytes, at: int) -> object:
    try:
        return run(data, at, len(data))
    except ProtocolViolation:
        return ProtocolViolation


@settings(max_examples=examples(600), deadline=None)
@given(
    made=st.sampled_from(MAKES),
    masks=masks_of(),
    rows=st.lists(st.lists(VALUES | USUAL, min_size=3, max_size=3), max_size=8),
    spoilt=st.tuples(
        st.lists(st.tuples(st.integers(0, 8), BODIES), max_size=2),
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2),
    ),
    tail=st.sampled_from([b"", frame(b"c", b"")]),
)
def test_runs_are_masked_alike(made, masks, rows, spoilt, tail) -> None:
    make, options, row_of = made
    strange, changes = spoilt
    ours, theirs = [0] * 3, [0] * 3
    plain = make(width=3, masks=masks, counts=theirs, **options)
    run = copyrows.runs_of(make(width=3, masks=masks, counts=ours, **options))
    bodies = [row_of(values, plain) for values in rows]
    for place, body in strange:
        bodies.insert(place, body)
    if make is BinaryCopyMasker:
        bodies = [*[HEADER + body for body in bodies[:1]], *bodies[1:], b"\xff\xff"]
    data = bytearray(b"".join(frame(b"d", body) for body in bodies) + tail)
    for place, value in changes:
        if data:
            data[place % len(data)] = value

    assert copyrows.count_copied(bytes(data), 0, 0) == (0, 0)
    assert outcome(copyrows.count_copied, bytes(data), 0) == outcome(copyrows.count_copied_python, bytes(data), 0)
    compiled = outcome(run, bytes(data), 0)
    assert compiled == outcome(plain.run, bytes(data), 0)
    assert compiled is ProtocolViolation or ours == theirs


def test_runs_of_whole_rows_need_no_message_of_their_own() -> None:
    """Without this the test above would pass where nothing is compiled."""
    pytest.importorskip("gateway.protocols.postgres._copyrows", reason="no C compiler or no Cython on this machine")
    for make, options, row_of in MAKES:
        masker = make(width=3, masks=[(1, mask, False)], counts=[0] * 3, **options)
        run = copyrows.runs_of(masker)
        row = row_of([b"a", b"b,\t", b'c"'], masker)
        first = frame(b"d", HEADER + row if make is BinaryCopyMasker else row)
        run(first, 0, len(first))
        masker.feed = None  # nobody may ask it now

        assert run(frame(b"d", row) * 2, 0, 2 * len(row) + 10)[:2] == (2 * len(row) + 10, 2)
