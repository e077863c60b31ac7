"""Two keys of a statement's shape: one for the record, one for the cache.

`fingerprint` strips every literal, so that a record of it answers no question about a value. `template` strips only
literals that provably cannot change what the analysis says: those compared with a plain column, and the cells of
INSERT … VALUES. All others (LIMIT 5, `data->>'ssn'`, `WHERE 1=1`, `interval '1 day'`, `'t'::regclass`) stay in the key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from analysis.lexer import LexError, Token, TokenKind, identifier
from analysis.making import quickly_made
from analysis.words import words

_COMPARING = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "+", "-"})
_COMPARING_WORDS = frozenset({"LIKE", "ILIKE"})
_ENDING = frozenset(")") | {","}
_ENDING_WORDS = frozenset({"AND", "OR", "ORDER", "GROUP", "LIMIT", "FOR", "RETURNING", "WHERE", "FROM"})
# A member of an enumeration is looked up by Python code each time (3.11): not for every token of a text.
_STRING, _NUMBER = _LITERALS = (TokenKind.STRING, TokenKind.NUMBER)
_QUOTED = TokenKind.QUOTED
_NAMES = (TokenKind.WORD, _QUOTED)
# What may stand before a signed number and is no column. `LIMIT - -5` and `ORDER BY - -2` say `LIMIT 5`, `ORDER BY 2`.
_NO_COLUMN = words(
    """
    ALL ANALYSE ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC BETWEEN BOTH BY CASE CAST CHECK COLLATE COLUMN CONSTRAINT CREATE
    CROSS DEFAULT DEFERRABLE DESC DISTINCT DO ELSE END ESCAPE EXCEPT EXISTS FALSE FETCH FILTER FIRST FOR FOREIGN FROM
    FULL GRANT GROUP HAVING ILIKE IN INITIALLY INNER INTERSECT INTERVAL INTO IS ISNULL JOIN LATERAL LEADING LEFT LIKE
    LIMIT NATURAL NEXT NOT NOTNULL NULL OF OFFSET ON ONLY OR ORDER OUTER OVER OVERLAPS PLACING PRIMARY RANGE REFERENCES
    RETURNING RIGHT ROW ROWS GROUPS SELECT SET SIMILAR SOME SYMMETRIC TABLE TABLESAMPLE THEN TO TRAILING TRUE UESCAPE
    UNION UNIQUE USER USING VALUE VALUES VARIADIC WHEN WHERE WINDOW WITH
    """
)
_CUT = 64  # bytes: names that are longer are cut (NAMEDATALEN)
_SHORT_INTEGER = 9  # digits that are always an int4
# A short integer between characters that can neither continue it nor be continued by it, whatever its digits are.
_RUN = re.compile(r"(?<=[=<> (,])[0-9]{1,9}(?=[ ),;]|$)")


@quickly_made
@dataclass(frozen=True, slots=True)
class Shape:
    """`template` keys a cache; `literal_independent` when it strips as much as `fingerprint` does."""

    fingerprint: str
    template: str
    literal_independent: bool


def skeleton(text: str) -> str:
    """Return `text` with its free-standing short integers blanked: a cheap key, meaningless without `skeleton_of`."""
    return _RUN.sub("\0", text)


def skeleton_of(text: str, tokens: list[Token]) -> str | None:
    """Return `skeleton(text)` when every text with that skeleton has this statement's template, else None.

    It does when each blanked run is a NUMBER token that the template strips: its neighbours end it on both sides, so
    other digits in its place change no other token. A run inside a string, a name or `LIMIT 5` makes it None.
    """
    cells = _value_cells(tokens)
    stripped = {
        token.start: token.text
        for index, token in enumerate(tokens)
        if token.kind is _NUMBER and _class_of(token) != "?" and (index in cells or _is_compared(tokens, index))
    }
    if "\0" in text or any(stripped.get(run.start()) != run.group() for run in _RUN.finditer(text)):
        return None
    return skeleton(text)


def shape_of(tokens: list[Token]) -> Shape:
    """Return both keys of a lexed statement."""
    public: list[bytes] = []
    private: list[bytes] = []
    independent = True
    cells = _value_cells(tokens)
    for index, token in enumerate(tokens):
        if token.kind in _LITERALS:
            word = _class_of(token)
            piece = _piece(word)
            public.append(piece)
            if word == "?" or not (index in cells or _is_compared(tokens, index)):
                piece = _piece("'" + token.text)
                independent = False
            private.append(piece)
        else:
            piece = _piece(_normal(token))
            public.append(piece)
            private.append(piece)
    fingerprint = _digest(public)
    return Shape(fingerprint, fingerprint if private == public else _digest(private), independent)


def exact_shape(text: str) -> Shape:
    """For what cannot be lexed: nothing is shared, and the record only says that it was odd."""
    return Shape(
        _digest([_piece("unlexable")]), "exact:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), False
    )


def _digest(pieces: list[bytes]) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def _piece(word: str) -> bytes:
    data = word.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "big") + data


def _normal(token: Token) -> str:
    if token.word and len(token.text) < _CUT and token.text.isascii():
        return token.text.lower()
    if token.kind in _NAMES:
        try:
            # A quoted name is never a keyword, so the two stay apart even when they fold to the same name.
            return ('"' if token.kind is _QUOTED else "") + identifier(token)
        except LexError:
            return token.text
    return token.text


def _class_of(token: Token) -> str:
    """A literal's class decides its type, and the type decides operators; `?` is a class that is never shared."""
    if token.kind is _STRING:
        return "?s" if token.text[0] == "'" and "\n" not in token.text else "?"
    return "?i" if token.text.isdigit() and len(token.text) <= _SHORT_INTEGER else "?"


def _is_compared(tokens: list[Token], index: int) -> bool:
    """`column op literal`, followed by something that ends the comparison."""
    before = index - 1
    if before >= 1 and tokens[before].text == "-" and tokens[before - 1].kind is TokenKind.OPERATOR:
        before -= 1
    if before < 1 or not (tokens[before].text in _COMPARING or tokens[before].word in _COMPARING_WORDS):
        return False
    column = tokens[before - 1]
    if column.kind not in _NAMES or column.word in _NO_COLUMN:
        return False
    if index + 1 >= len(tokens):
        return True
    after = tokens[index + 1]
    return after.text in _ENDING or after.word in _ENDING_WORDS


def _value_cells(tokens: list[Token]) -> frozenset[int]:
    """The literals that stand alone in a cell of INSERT … VALUES (…), (…), the statement's own and not a subquery's."""
    start = _own_values(tokens)
    if start is None:
        return frozenset()
    cells: set[int] = set()
    depth = 0
    for index in range(start + 1, len(tokens)):
        token = tokens[index]
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        elif depth == 0 and token.text != ",":
            break
        elif (
            depth == 1
            and token.kind in _LITERALS
            and tokens[index - 1].text in ("(", ",")
            and index + 1 < len(tokens)
            and tokens[index + 1].text in (",", ")")
        ):
            cells.add(index)
    return frozenset(cells)


def _own_values(tokens: list[Token]) -> int | None:
    """Where the VALUES of an INSERT stands. One in parentheses is a subquery's, perhaps with a whole query behind."""
    if not tokens or tokens[0].word != "INSERT":
        return None
    depth = 0
    for index, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.word == "SELECT":
            return None
        if token.word == "VALUES" and depth == 0:
            return index
    return None
