"""Texts and values as a reviewer sees them: whole, or with a plain word and a digest about what is left out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from approvals.domain.diff import DiffLine, diff_lines
from approvals.domain.display import MARK, Line, Piece, name_pieces, visible_lines, warnings
from audit.domain.marks import visible

MAX_SHOWN_PARAMETER = 20_000  # characters; of a longer one both ends
LONG_PARAMETER = 400
# A million characters of nothing but marks would keep the reviewer's browser busy for minutes.
MAX_PIECES = 50_000


@dataclass(frozen=True, slots=True)
class ShownText:
    """A statement as a reviewer sees it; `sha256` and `size` are of its exact UTF-8 bytes."""

    text: str
    lines: tuple[Line, ...]
    warnings: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ShownDiffLine:
    sign: str
    parts: tuple[tuple[Line, bool], ...]


@dataclass(frozen=True, slots=True)
class ShownParameter:
    """`sha256` only where the value is too long to be shown whole: of all its bytes, `size` of them."""

    number: int
    value: Line | None  # None is NULL
    size: int
    sha256: str = ""

    @property
    def long(self) -> bool:
        return self.size > LONG_PARAMETER


def shown_text(text: str, *, kind: str = "") -> ShownText:
    """The text of a statement on a connection of this kind."""
    raw = text.encode("utf-8", "surrogatepass")
    return ShownText(text, _lines(text, kind), warnings(text), hashlib.sha256(raw).hexdigest(), len(raw))


def shown_diff(before: str, after: str) -> tuple[ShownDiffLine, ...]:
    return tuple(_shown_diff_line(line) for line in diff_lines(before, after))


def shown_parameters(values: tuple[bytes | None, ...], formats: tuple[int, ...]) -> list[ShownParameter]:
    """Bound values. Text that is UTF-8 is shown as text, everything else as hexadecimal digits."""
    return [_shown_parameter(index, value, _is_binary(formats, index)) for index, value in enumerate(values)]


def _lines(text: str, kind: str) -> tuple[Line, ...]:
    lines = visible_lines(text, kind=kind)
    if sum(map(len, lines)) <= MAX_PIECES:
        return lines
    # Every mark is still there, as text; colours and underlines are not.
    return tuple((Piece(visible(line)),) for line in text.split("\n"))


def _shown_parameter(index: int, value: bytes | None, binary: bool) -> ShownParameter:
    if value is None:
        return ShownParameter(index + 1, None, 0)
    text = _as_text(value, binary)
    if len(text) <= MAX_SHOWN_PARAMETER:
        return ShownParameter(index + 1, name_pieces(text), len(value))
    end = MAX_SHOWN_PARAMETER // 2
    left_out = Piece(f"⟨{len(text) - 2 * end} characters are left out here⟩", MARK, "not shown")
    both_ends = (*name_pieces(text[:end]), left_out, *name_pieces(text[-end:]))
    return ShownParameter(index + 1, both_ends, len(value), hashlib.sha256(value).hexdigest())


def _as_text(value: bytes, binary: bool) -> str:
    if not binary:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass  # shown as digits, which show anything
    return f"0x{value.hex()}"


def _is_binary(formats: tuple[int, ...], index: int) -> bool:
    """No code: text; one code: for all (PostgreSQL protocol, Bind); too few: digits, which show anything."""
    if not formats:
        return False
    code = formats[0] if len(formats) == 1 else formats[index] if index < len(formats) else 1
    return bool(code)


def _shown_diff_line(line: DiffLine) -> ShownDiffLine:
    # Nothing is coloured: a part of a line does not tell its keywords from the words of a literal it is cut from.
    return ShownDiffLine(line.sign, tuple((name_pieces(text), changed) for text, changed in line.parts))
