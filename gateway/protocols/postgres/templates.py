"""A simple query's text as a template with parameters, so that a server need not parse each of its kind.

Only where nobody can tell: the answer of `select a from t where b = 5` is that of `select a from t where b = $1` with a
parameter of the type the server gives such a number. What this module does not know for certain to be like that has no
template. Whether the server sees it the same way (grouping by an expression with a constant, for one, it does not) the
caller finds out by asking it, before anything runs.
"""

from __future__ import annotations

import re

from gateway.protocols.postgres.client import Parse, encode_parse

INT4 = 23  # the type of a number of at most nine digits
# No quotes, comments, signs or operators but comparisons: nothing of it can be anything else than it seems to be.
_PLAIN = re.compile(rb"select[ \t\r\n][a-z0-9_ \t\r\n.,()=<>*\0]*;?", re.IGNORECASE)
_COMPARED = re.compile(rb"(?<![=<>*])(?:=|<>|<=|>=|<|>) ?\0")
# What could tell the client of the text the server was sent.
_TELLING = re.compile(rb"query|pg_", re.IGNORECASE)
# In grouping sets an expression is null where it is not grouped by. One with a constant is found again in the list of
# groups; with two parameters it is another, and no error says so.
_NULLED = re.compile(rb"grouping|rollup|cube", re.IGNORECASE)
_MOST = 100


def template_of(shape: bytes) -> bytes | None:
    """Parse of the unnamed statement that stands for every query of this shape; None when there is none.

    `shape` has a zero byte in place of each integer that is a parameter then (`express.blank_integers`).
    """
    if not _PLAIN.fullmatch(shape) or _TELLING.search(shape) or _NULLED.search(shape):
        return None
    parts = shape.removesuffix(b";").decode("ascii").split("\0")
    count = len(parts) - 1
    if not 1 <= count <= _MOST or count != len(_COMPARED.findall(shape)):
        return None
    text = "".join([f"{part}${number}" for number, part in enumerate(parts[:-1], 1)]) + parts[-1]
    return encode_parse(Parse("", text, (INT4,) * count))
