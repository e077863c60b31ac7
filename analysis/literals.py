"""What a string literal says, in every spelling PostgreSQL has for one (documentation, "String Constants").

Exact or not at all: the value is what the server will read (src/backend/parser/scan.l and parser.c), and None where
that depends on a version or a setting, or the server would refuse the literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from analysis.lexer import CONTINUE, Token, TokenKind

_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}
_BETWEEN = rf"'{CONTINUE}"  # a literal goes on after white space that holds a newline
_PLAIN = re.compile(rf"(?P<quote>'')|(?P<between>{_BETWEEN})|(?P<text>[^']+)")
_ESCAPED = re.compile(
    rf"(?P<quote>'')|(?P<between>{_BETWEEN})|(?P<text>[^'\\]+)"
    r"|\\x(?P<hex>[0-9A-Fa-f]{1,2})|\\(?P<octal>[0-7]{1,3})"
    r"|\\u(?P<short>[0-9A-Fa-f]{4})|\\U(?P<long>[0-9A-Fa-f]{8})|\\(?P<simple>[bfnrt\\'])"
)
_MOST = 0x10FFFF
_NO_ESCAPE = frozenset("0123456789abcdefABCDEF+'\" \t\n\r\f\v")  # `check_uescapechar` (src/backend/parser/parser.c)


def literal_value(tokens: Sequence[Token]) -> str | None:
    """The value of one literal: '…', E'…', U&'…' [UESCAPE 'c'] or $tag$…$tag$; None for anything else.

    Standard-conforming strings are assumed, as everywhere a connection's PHI depends on them.
    """
    if not tokens or tokens[0].kind is not TokenKind.STRING:
        return None
    text = tokens[0].text
    if text[:2] in ("U&", "u&"):
        escape = _escape_character(tokens[1:])
        return None if escape is None else _unicode(text[2:], escape)
    read = _READERS.get(text[0]) if len(tokens) == 1 else None
    return None if read is None else read(text)  # bits and national characters are other types


def _escape_character(behind: Sequence[Token]) -> str | None:
    if not behind:
        return "\\"
    if len(behind) != 2 or behind[0].word != "UESCAPE" or behind[1].text[0] != "'":
        return None
    value = literal_value(behind[1:])
    return value if value is not None and len(value) == 1 and value not in _NO_ESCAPE else None


def _plain(text: str) -> str | None:
    found = _pieces(_PLAIN, text)
    return None if found is None else "".join("'" if piece["quote"] else piece["text"] or "" for piece in found)


def _escaped(text: str) -> str | None:
    """E'…'. Escapes name bytes as well as characters: together they must be valid UTF-8 without NUL."""
    found = _pieces(_ESCAPED, text[1:])
    if found is None:
        return None
    value, high = b"", 0  # the first half of a surrogate pair
    for piece in found:
        named = piece["short"] or piece["long"]
        point = int(named, 16) if named else -1
        if high != 0 and not 0xDC00 <= point <= 0xDFFF:
            return None
        if 0xD800 <= point <= 0xDBFF:
            high = point
            continue
        if 0xDC00 <= point <= 0xDFFF:
            if not high:
                return None
            point, high = 0x10000 + ((high - 0xD800) << 10) + point - 0xDC00, 0
        if point > _MOST:
            return None
        value += chr(point).encode() if named else _bytes(piece)
    return None if high else _decoded(value)


def _bytes(piece: re.Match[str]) -> bytes:
    if piece["hex"] or piece["octal"]:
        return bytes([int(piece["hex"], 16) if piece["hex"] else int(piece["octal"], 8) & 0xFF])
    if piece["simple"]:
        return _SIMPLE[piece["simple"]].encode()
    return b"'" if piece["quote"] else (piece["text"] or "").encode("utf-8", "surrogatepass")


def _unicode(text: str, escape: str) -> str | None:
    """U&'…': the escape character with four digits, with + and six, or doubled (`str_udeescape`)."""
    plain = _plain(text)
    if plain is None:
        return None
    mark = re.escape(escape)
    parts = re.compile(rf"[^{mark}]+|{mark}{mark}|{mark}[0-9A-Fa-f]{{4}}|{mark}\+[0-9A-Fa-f]{{6}}")
    value, at = "", 0
    while at < len(plain):
        found = parts.match(plain, at)
        if found is None:
            return None
        value, at = value + _unicode_part(found[0], escape), found.end()
    # Halves of surrogate pairs are left out of what is known: nobody needs them to name a thing.
    return _decoded(value.encode("utf-8", "surrogatepass"))


def _unicode_part(part: str, escape: str) -> str:
    if part[0] != escape:
        return part
    if part == escape * 2:
        return escape
    point = int(part[1:].lstrip("+"), 16)
    return chr(point) if point <= _MOST else "\0"


def _dollar_quoted(text: str) -> str:
    tag = text[: text.index("$", 1) + 1]
    return text[len(tag) : -len(tag)]


def _pieces(pattern: re.Pattern[str], text: str) -> list[re.Match[str]] | None:
    """The pieces between the outer quotes, in order; None when they do not make up the whole."""
    at, end, found = 1, len(text) - 1, []
    while at < end:
        piece = pattern.match(text, at, end)
        if piece is None:
            return None
        found.append(piece)
        at = piece.end()
    return found


def _decoded(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


_READERS: dict[str, Callable[[str], str | None]] = {"'": _plain, "e": _escaped, "E": _escaped, "$": _dollar_quoted}
