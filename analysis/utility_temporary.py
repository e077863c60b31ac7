"""Definitions of temporary relations, in the few forms that can be followed: nothing hides in them.

`CREATE TEMP TABLE t (a type, …)`, `CREATE TEMP TABLE t AS query`, `CREATE INDEX ON t (a)`, `ANALYZE t`, `DROP TABLE t`.
Only those that name nothing but relations of the session's own are understood, which the second reading decides.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.lexer import Token, TokenKind
from analysis.utility_shape import DDL, StatementText, Utility, after_name

_SCOPE = ("LOCAL", "GLOBAL")
_TEMP = ("TEMP", "TEMPORARY")
_NAMES = (TokenKind.WORD, TokenKind.QUOTED)
# Nothing of a column but its name, its type and these: defaults, checks and generated values run code of their own.
_COLUMN_CODE = frozenset(
    {"DEFAULT", "CHECK", "GENERATED", "REFERENCES", "LIKE", "FOREIGN", "EXCLUDE", "CONSTRAINT", "INHERITS", "OF", "AS"}
)


def temporary_table(read: StatementText) -> tuple[str, int] | None:
    """The name of the table that CREATE TEMP TABLE makes, and the index after it; None for any other form."""
    at = 2 if read.words(1, 2) and read.words(1, 2)[0] in _SCOPE else 1
    if read.words(at, at + 2) not in [[word, "TABLE"] for word in _TEMP]:
        return None
    return named_temporary(read, at + 2)


def is_temporary_view(read: StatementText) -> bool:
    """CREATE [OR REPLACE] TEMP VIEW: read through like any view, so that nothing has to be remembered of it."""
    at = 3 if read.words(1, 3) == ["OR", "REPLACE"] else 1
    at += read.words(at, at + 1) in [[word] for word in _SCOPE]
    return read.words(at, at + 2) in [[word, "VIEW"] for word in _TEMP]


def named_temporary(read: StatementText, at: int) -> tuple[str, int] | None:
    """`[IF NOT EXISTS] [pg_temp.]name` at `at`."""
    if read.words(at, at + 3) == ["IF", "NOT", "EXISTS"]:
        at += 3
    end = after_name(read, at)
    if end - at == 3 and read.name_at(at) == "pg_temp":
        at += 2
    name = read.name_at(at)
    return (name, end) if name and end == at + 1 else None


def is_plain_table(read: StatementText, at: int) -> bool:
    """Whether what follows the name at `at` is a list of plain columns, and at most ON COMMIT behind it."""
    tokens = read.tokens[at:]
    if not tokens or tokens[0].text != "(":
        return False
    known = (*_NAMES, TokenKind.NUMBER)
    plain = all(token.kind in known or token.text in ("(", ")", ",", ".", "[", "]") for token in tokens)
    return plain and not any(token.word in _COLUMN_CODE for token in tokens)


def read_drop(read: StatementText) -> Utility | None:
    """DROP TABLE | VIEW of names, without CASCADE."""
    kind = read.words(1, 2)
    if kind not in (["TABLE"], ["VIEW"]):
        return None
    at = 4 if read.words(2, 4) == ["IF", "EXISTS"] else 2
    end = len(read.tokens) - (read.words()[-1] == "RESTRICT")
    return _about(f"DROP_{kind[0]}", read, read.tokens[at:end])


def read_index(read: StatementText) -> Utility | None:
    """CREATE INDEX [name] ON t (columns): no expressions, no condition, not unique (that would compare values)."""
    words = read.words()
    if words[1:2] != ["INDEX"] or "ON" not in words[:4]:
        return None
    at = words.index("ON") + 1
    end = after_name(read, at)
    columns = read.tokens[end + 1 : -1]
    if [token.text for token in (*read.tokens[end : end + 1], *read.tokens[-1:])] != ["(", ")"]:
        return None
    if any(token.kind not in _NAMES and token.text != "," for token in columns) or not columns:
        return None
    chosen = read.text[columns[0].start : columns[-1].end]
    found = _about("CREATE_INDEX", read, read.tokens[at:end])
    return found and replace(found, probe=f"SELECT {chosen} {str(found.probe).removeprefix('SELECT ')}")


def read_analyze(read: StatementText) -> Utility | None:
    return _about("ANALYZE", read, read.tokens[1:])


def _about(kind: str, read: StatementText, body: list[Token]) -> Utility | None:
    if not body or any(token.kind not in _NAMES and token.text not in (",", ".") for token in body):
        return None
    listed = read.text[body[0].start : body[-1].end]
    return Utility(kind, DDL, probe=f"SELECT FROM {listed}\n", writes_probed=True, temporary_only=True)
