"""The two shapes of traffic nearly every statement has, each read in one look; None means: read it frame by frame.

    request    [Parse ""] Bind "" [Describe portal ""] Execute "" Sync              as one run, nothing before or behind
    answer     [[ParseComplete] BindComplete] RowDescription DataRow* (CommandComplete | PortalSuspended) ReadyForQuery
               [ParseComplete] BindComplete NoData CommandComplete ReadyForQuery        of what returns no rows, and
               CommandComplete ReadyForQuery                                            as a Query is answered then

Whoever has described the statement before leaves the portal's Describe out (asyncpg, JDBC); the server is asked all the
same (`describing`), because its answer is shown by what it says of its columns.

What is read here has passed the same checks as in `client` and `frames`: lengths that add up, text that ends, format
codes 0 and 1, no byte left over. Anything else, an error or a notice in between included, is None.
"""

from __future__ import annotations

import contextlib
import re
from struct import Struct, error

_LENGTH = Struct("!I").unpack_from
_UINT16 = Struct("!H").unpack_from
_INT32 = Struct("!i").unpack_from
_DESCRIBE, _EXECUTE, _SYNC = b"D\0\0\0\x06P\0", b"E\0\0\0\x09\0", b"S\0\0\0\x04"
_RUN_SIZE = len(_EXECUTE) + 4 + len(_SYNC)  # from Execute on; the 4 are how many rows are wanted
_SUSPENDED = b"s\0\0\0\x04"
_PARSED, _BOUND, _NO_DATA, _READY = b"1\0\0\0\x04", b"2\0\0\0\x04", b"n\0\0\0\x04", b"Z\0\0\0\x05"

# (name of the statement, its new text or None, parameter types, formats, parameters, result formats, has a Describe)
ExtendedRequest = tuple[
    bytes, bytes | None, tuple[int, ...], tuple[int, ...], tuple[bytes | None, ...], tuple[int, ...], bool
]
# Places in the answer: description, first row, how it ended, end of that; then the transaction's state. Where nothing
# describes rows, the first three are where NoData is, and behind it; a Query has none, and they are one place.
Answer = tuple[int, int, int, int, int]


def read_query(data: bytes) -> bytes | None:
    """The text of `data` if that is exactly one Query message."""
    if len(data) < 6 or data[0] != 0x51 or _LENGTH(data, 1)[0] != len(data) - 1 or data.find(0, 5) != len(data) - 1:
        return None
    return data[5:-1]


# What `analysis.fingerprint.skeleton` blanks, in the bytes of a text.
_RUN = re.compile(rb"(?<=[=<> (,])[0-9]{1,9}(?=[ ),;]|$)")


def blank_integers(text: bytes) -> bytes:
    """`analysis.fingerprint.skeleton` of a text as it came."""
    return _RUN.sub(b"\0", text)


def read_extended(data: bytes) -> ExtendedRequest | None:
    """What `data` asks for if that is exactly one execution of the unnamed portal."""
    try:
        return _read_extended(data)
    except (error, IndexError):
        return None


def _read_extended(data: bytes) -> ExtendedRequest | None:
    at, text, types = 0, None, ()
    if data[0] == 0x50:  # Parse
        at = 1 + _LENGTH(data, 1)[0]
        end = data.find(0, 6)
        if at > len(data) or data[5] != 0 or not 6 <= end < at or end + 3 + 4 * _UINT16(data, end + 1)[0] != at:
            return None
        text, types = data[6:end], tuple(_LENGTH(data, place)[0] for place in range(end + 3, at, 4))
    stop = at + 1 + _LENGTH(data, at + 1)[0]
    if data[at] != 0x42 or data[at + 5] != 0 or not _is_run(data, stop):
        return None
    end = data.find(0, at + 6)
    if not at + 6 <= end < stop or (text is not None and end != at + 6):
        return None
    name = data[at + 6 : end]
    formats, at = _codes(data, end + 1)
    parameters, at = _parameters(data, at, stop)
    result_formats, at = _codes(data, at)
    if at != stop or (len(formats) > 1 and len(formats) != len(parameters)):
        return None
    if not {*formats, *result_formats} <= {0, 1}:
        return None
    return name, text, types, formats, parameters, result_formats, len(data) - stop > _RUN_SIZE


def _is_run(data: bytes, at: int) -> bool:
    """Whether `data` ends with [Describe] Execute Sync from there on."""
    run = len(data) - _RUN_SIZE
    if at != run and not (at == run - len(_DESCRIBE) and data.startswith(_DESCRIBE, at)):
        return False
    return data.startswith(_EXECUTE, run) and data.endswith(_SYNC)


def describing(data: bytes) -> bytes:
    """A request that was read and has no Describe, with one."""
    run = len(data) - _RUN_SIZE
    return data[:run] + _DESCRIBE + data[run:]


def _codes(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    end = at + 2 + 2 * _UINT16(data, at)[0]
    return tuple(_UINT16(data, place)[0] for place in range(at + 2, end, 2)), end


def _parameters(data: bytes, at: int, stop: int) -> tuple[tuple[bytes | None, ...], int]:
    values: list[bytes | None] = []
    count = _UINT16(data, at)[0]
    at += 2
    for _ in range(count):
        size = _INT32(data, at)[0]
        at += 4
        if size < -1 or at + size > stop:
            raise IndexError
        values.append(None if size == -1 else data[at : at + size])
        at += max(size, 0)
    return tuple(values), at


def read_answer(data: bytes, *, parsed: bool, bound: bool = True) -> Answer | None:
    """Where the parts of `data` are if that is exactly one whole answer (frames are whole).

    `parsed`, `bound`: whether a Parse and a Bind are answered with it; a Query's has neither.
    """
    description, size = 0, len(data)
    for answered, frame in ((parsed, _PARSED), (bound, _BOUND)):
        if answered:
            if data[description : description + 5] != frame:
                return None
            description += 5
    if size - description < 12:
        return None
    described = has_rows(data, description)
    at = rows = _behind_description(data, description, bound=bound)
    while described and size - at >= 11 and data[at] == 0x44:
        if (length := _LENGTH(data, at + 1)[0]) < 4:
            return None
        at += 1 + length
    end = size - 6
    if end < at or not ((described and data[at:end] == _SUSPENDED) or _is_command_tag(data, at, end)):
        return None
    if data[end : end + 5] != _READY or data[size - 1] not in b"IT":
        return None
    return description, rows, at, end, data[size - 1]


def has_rows(data: bytes, description: int) -> bool:
    """Whether an answer describes rows at that place."""
    return data[description] == 0x54


def _behind_description(data: bytes, description: int, *, bound: bool) -> int:
    if has_rows(data, description):
        length: int = _LENGTH(data, description + 1)[0]
        return description + 1 + length
    return description + len(_NO_DATA) if bound and data.startswith(_NO_DATA, description) else description


def _is_command_tag(data: bytes, at: int, end: int) -> bool:
    return end >= at + 6 and data[at] == 0x43 and at + 1 + _LENGTH(data, at + 1)[0] == end and not data[end - 1]


def answered_tag(data: bytes, answer: Answer) -> str:
    """The command tag of an answer; SUSPENDED where there may be more rows than were asked for."""
    _, _, tag, end, _ = answer
    return "SUSPENDED" if data[tag] == _SUSPENDED[0] else data[tag + 5 : end - 1].decode("utf-8", "replace")


read_query_python, read_extended_python, read_answer_python = read_query, read_extended, read_answer
blank_integers_python = blank_integers
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from gateway.protocols.postgres._fast import blank_integers, read_answer, read_extended, read_query
