"""Permanent relations made of a query: CREATE TABLE … AS, CREATE [MATERIALIZED] VIEW … AS, SELECT … INTO.

In their plain forms nothing hides but in the query, which both readings see: a name, perhaps new names for its columns,
AS, the query, WITH [NO] DATA. Whatever else may stand there (storage, options, OR REPLACE, which changes what others
rest on) leaves them unread. Whether one may be made over protected columns is for people: `is_doubtful`.
"""

from __future__ import annotations

from analysis.lexer import TokenKind
from analysis.utility_shape import (
    DDL,
    READ,
    Made,
    StatementText,
    Utility,
    after_name,
    close_of,
    inner_query,
    made_relation,
)

MAKES_A_RELATION = frozenset({"CREATE_TABLE_AS", "CREATE_VIEW", "SELECT_INTO"})
_PROBLEM = "creates a relation from a query's result"
_HOLDING = (["TABLE"], ["UNLOGGED", "TABLE"], ["MATERIALIZED", "VIEW"])
_HEADS = (*_HOLDING, ["VIEW"])


def read_definition(read: StatementText, kind: str) -> Utility | None:
    """CREATE TABLE … AS or CREATE VIEW … AS; None for what is not made of a query."""
    at = defining_query(read)
    if not inner_query(read, at):
        return None
    temp, head = names_temp(read), _head(read)
    named = _plainly_named(read, 1 + len(head)) if head and not temp else None
    plain = named is not None and named[1] == at - 1 and read.words()[-2:] != ["CHECK", "OPTION"]
    return Utility(
        "CREATE_TABLE_AS" if kind == "CREATE_TABLE" else kind,
        DDL | READ,
        probe=read.text[read.tokens[at].start : end_of_query(read)],
        probe_offset=read.tokens[at].start,
        export=True,
        problems=() if plain else (_PROBLEM,),
        creates_temp=temp,
        made=made_relation(read, 1 + len(head)) if head in _HOLDING and not temp else None,
        defines=named[0] if named is not None and plain else None,
    )


def read_into(read: StatementText, first: int, last: int, *, start: int, probe: str) -> Utility:
    """SELECT … INTO [UNLOGGED] [TABLE] name FROM …: the tokens from `first` up to `last` are the target."""
    at = first + 1
    at += read.words(at, at + 1) == ["UNLOGGED"]
    at += read.words(at, at + 1) == ["TABLE"] and at + 1 < last
    temp = names_temp(read)
    named = _plainly_named(read, at) if not temp else None
    plain = named is not None and named[1] == last and start == 0
    return Utility(
        "SELECT_INTO",
        DDL | READ,
        probe=probe,
        export=True,
        problems=() if plain else (_PROBLEM,),
        creates_temp=temp,
        made=made_relation(read, at) if not temp else None,
        defines=named[0] if named is not None and plain else None,
    )


def names_temp(read: StatementText) -> bool:
    """TEMP, TEMPORARY or the schema pg_temp, wherever it stands and however it is spelled: too often is safe."""
    return any(
        token.word in ("TEMP", "TEMPORARY") or read.name_at(at).lower().startswith("pg_temp")
        for at, token in enumerate(read.tokens)
    )


def defining_query(read: StatementText) -> int:
    """The index after the AS of CREATE … AS; the AS of GENERATED ALWAYS AS stands in parentheses."""
    depth = 0
    for index, token in enumerate(read.tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.word == "AS":
            return index + 1
    return len(read.tokens)


def end_of_query(read: StatementText) -> int:
    """Where the query of CREATE … AS ends: before WITH [NO] DATA or WITH … CHECK OPTION."""
    words = read.words()
    for tail in (["WITH", "NO", "DATA"], ["WITH", "DATA"], ["WITH", "CHECK", "OPTION"]):
        if words[-len(tail) :] == tail:
            return read.tokens[-len(tail)].start
    return len(read.text)


def _head(read: StatementText) -> list[str]:
    return next((head for head in _HEADS if read.words(1, 1 + len(head)) == head), [])


def _plainly_named(read: StatementText, index: int) -> tuple[Made, int] | None:
    """`[IF NOT EXISTS] [schema.]name [(columns)]` at `index`, and the index after it."""
    if read.words(index, index + 3) == ["IF", "NOT", "EXISTS"]:
        index += 3
    end = after_name(read, index)
    names = [read.name_at(at) for at in range(index, end, 2)]
    if not all(names) or len(names) > 2:
        return None
    columns: tuple[str, ...] = ()
    if end < len(read.tokens) and read.tokens[end].text == "(":
        close = close_of(read, end)
        columns = tuple(read.name_at(at) for at in range(end + 1, close, 2))
        commas = all(read.tokens[at].text == "," for at in range(end + 2, close, 2))
        if not (all(columns) and columns and commas) or (close - end) % 2:
            return None
        end = close + 1
    if read.tokens[index].kind not in (TokenKind.WORD, TokenKind.QUOTED):
        return None
    return Made(names[-2] if len(names) > 1 else "", names[-1], columns), end
