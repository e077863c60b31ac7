"""What kind of statement a text is, by its own leading keywords: an allow-list, read by our lexer alone.

Queries go to the second reading as they are; statements that carry a query (COPY, EXPLAIN, PREPARE, DECLARE, CREATE
TABLE AS …) give it up as `probe`; the rest is known by keyword or it is not known at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.lexer import TokenKind, tokenize
from analysis.utility_copy import read_copy
from analysis.utility_definition import defining_query, end_of_query, names_temp, read_definition, read_into
from analysis.utility_session import (
    read_discard,
    read_listen,
    read_notify,
    read_reset,
    read_set,
    read_show,
    read_transaction,
    read_two_phase,
)
from analysis.utility_shape import (
    ADMIN,
    DDL,
    QUERY_WORDS,
    READ,
    SESSION,
    TEMP,
    WRITE,
    StatementText,
    Utility,
    after_name,
    close_of,
    inner_query,
)
from analysis.utility_temporary import (
    is_plain_table,
    is_temporary_view,
    named_temporary,
    read_analyze,
    read_drop,
    read_index,
    temporary_table,
)
from analysis.words import words

__all__ = ["Utility", "read_utility"]


def read_utility(text: str) -> Utility:
    """Return the kind of `text`, one statement. Raises LexError when it cannot be lexed."""
    tokens = tokenize(text)
    if tokens and tokens[-1].text == ";":
        tokens = tokens[:-1]
    if not tokens:
        return Utility("EMPTY", SESSION)
    if any(token.text == ";" for token in tokens) and tokens[0].word != "CREATE":
        return Utility("UNKNOWN", ADMIN, problems=("more than one statement",))
    read = StatementText(text, tokens)
    head = tokens[0].word
    if tokens[0].text == "(" or head in QUERY_WORDS:
        return _query(read)
    handler = _HANDLERS.get(head)
    if handler is None:
        # Every keyword that begins a statement is known, so the database will refuse this, and say where.
        problem = "a statement of a kind that is not known"
        return Utility("UNKNOWN", ADMIN, probe=text, probe_offset=0, problems=(problem,))
    return handler(read)


# --- queries ---------------------------------------------------------------------------------------------------------


def _query(read: StatementText, start: int = 0) -> Utility:
    into = _select_into(read, start)
    offset = read.tokens[start].start
    if into is None:
        return Utility("QUERY", probe=read.text[offset:], probe_offset=offset, returns_probe=True)
    first, last = into
    probe = read.text[offset : read.tokens[first].start] + " " + read.from_token(last)
    temporary = _into_temporary(read, first, last) if start == 0 else ""
    if temporary:
        return Utility("SELECT_INTO", TEMP | READ, probe=probe, creates=temporary, creates_temp=True)
    return read_into(read, first, last, start=start, probe=probe)


def _select_into(read: StatementText, start: int) -> tuple[int, int] | None:
    """The tokens of `INTO [TEMP | UNLOGGED] [TABLE] name` of a SELECT, outside parentheses."""
    depth, verb = 0, ""
    for index in range(start, len(read.tokens)):
        token = read.tokens[index]
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        if depth:
            continue
        if not verb and token.word in ("SELECT", "INSERT", "MERGE", "UPDATE", "DELETE", "VALUES", "TABLE"):
            verb = token.word
        named = read.tokens[index - 1].word == "AS" or read.tokens[index - 1].text == "."  # a label, or a column
        if token.word == "INTO" and verb == "SELECT" and not named:
            end = index + 1
            while end < len(read.tokens) and read.tokens[end].word in (
                "TEMP", "TEMPORARY", "LOCAL", "GLOBAL", "UNLOGGED", "TABLE",
            ):  # fmt: skip
                end += 1
            return index, after_name(read, end)
    return None


def _into_temporary(read: StatementText, first: int, last: int) -> str:
    """The name of `INTO [LOCAL | GLOBAL] TEMP [TABLE] name`; "" for any other target."""
    at = first + 2 if read.words(first + 1, first + 2) in (["LOCAL"], ["GLOBAL"]) else first + 1
    if read.words(at, at + 1) not in (["TEMP"], ["TEMPORARY"]):
        return ""
    at += 2 if read.words(at + 1, at + 2) == ["TABLE"] else 1
    found = named_temporary(read, at)
    return found[0] if found is not None and found[1] == last else ""


# --- prepared statements and cursors ---------------------------------------------------------------------------------


def _prepare(read: StatementText) -> Utility:
    if read.words(1, 2) == ["TRANSACTION"]:
        return read_two_phase("PREPARE_TRANSACTION", read)
    at, types = 2, ""
    if at < len(read.tokens) and read.tokens[at].text == "(":
        close = close_of(read, at)
        types = read.text[read.tokens[at].end : read.tokens[close].start] if close < len(read.tokens) else ""
        at = close + 1
    if read.words(at, at + 1) != ["AS"] or not inner_query(read, at + 1):
        return Utility("PREPARE", ADMIN, problems=("PREPARE of something that is not a query",))
    inner = _query(read, at + 1)
    prepared = Utility(
        "PREPARE",
        SESSION,
        probe=inner.probe,
        probe_offset=inner.probe_offset,
        problems=inner.problems,
        name=read.name_at(1),
        parameter_types=types,
    )
    return _named(prepared)


def _execute(read: StatementText) -> Utility:
    """Its arguments are evaluated here and now: literals do nothing, anything else must be read first."""
    known = (TokenKind.STRING, TokenKind.NUMBER, TokenKind.PARAM)
    plain = all(
        token.kind in known or token.text in ("(", ")", ",", "-") or token.word in ("NULL", "TRUE", "FALSE")
        for token in read.tokens[2:]
    )
    whole = read.tokens[2:3] and read.tokens[2].text == "(" and close_of(read, 2) == len(read.tokens) - 1
    arguments = read.text[read.tokens[2].end : read.tokens[-1].start] if whole and not plain else ""
    problems = () if plain or arguments else ("EXECUTE of a form that is not known",)
    return _named(
        Utility("EXECUTE", ADMIN, name=read.name_at(1), problems=problems, executes=True, arguments=arguments)
    )


def _deallocate(read: StatementText) -> Utility:
    at = 2 if read.words(1, 2) == ["PREPARE"] and len(read.tokens) > 2 else 1
    if read.words(at, at + 1) == ["ALL"]:
        return Utility("DEALLOCATE", SESSION)
    return _named(Utility("DEALLOCATE", SESSION, name=read.name_at(at)))


def _declare(read: StatementText) -> Utility:
    words = read.words()
    if "CURSOR" not in words or "FOR" not in words[words.index("CURSOR") :]:
        return Utility("DECLARE_CURSOR", ADMIN, problems=("DECLARE of a form that is not known",))
    at = words.index("FOR", words.index("CURSOR")) + 1
    if not inner_query(read, at):
        return Utility("DECLARE_CURSOR", ADMIN, problems=("DECLARE of something that is not a query",))
    inner = _query(read, at)
    # What is held is run as its transaction ends, and kept, whether anybody fetches from it or not.
    holds = words[at - 3 : at - 1] == ["WITH", "HOLD"]
    declared = Utility(
        "DECLARE_CURSOR",
        SESSION,
        probe=inner.probe,
        probe_offset=inner.probe_offset,
        problems=inner.problems,
        name=read.name_at(1),
        runs_probe=holds,
    )
    return _named(declared)


def _fetch(read: StatementText) -> Utility:
    """`row_bound` None is ALL; a single number is a count, except after ABSOLUTE and RELATIVE."""
    words = read.words()
    numbers = [token.text for token in read.tokens[1:-1] if token.kind is TokenKind.NUMBER]
    bound: int | None = 1
    if "ALL" in words[1:-1] or (words[1:2] in (["FORWARD"], ["BACKWARD"]) and not numbers and len(words) < 3):
        bound = None
    elif numbers and not {"ABSOLUTE", "RELATIVE"} & set(words[1:-1]):
        bound = int(numbers[0]) if numbers[0].isdigit() else None
    return _named(Utility(read.tokens[0].word, ADMIN, name=read.name_at(len(read.tokens) - 1), row_bound=bound))


def _close(read: StatementText) -> Utility:
    if read.words(1, 2) == ["ALL"]:
        return Utility("CLOSE", SESSION)
    return _named(Utility("CLOSE", SESSION, name=read.name_at(1)))


def _named(utility: Utility) -> Utility:
    """With a name nobody read (U&"…"), it may be about any statement or cursor: all such names would look alike."""
    if utility.name:
        return utility
    return replace(utility, operations=ADMIN, problems=(*utility.problems, "a name that is not read"))


# --- EXPLAIN, LOCK, TRUNCATE -----------------------------------------------------------------------------------------


def _explain(read: StatementText) -> Utility:
    problems: tuple[str, ...] = ()
    at, runs = 1, False
    if len(read.tokens) > 1 and read.tokens[1].text == "(" and not inner_query(read, 2):
        at = close_of(read, 1) + 1
        names = _option_names(read, 2, at)
        runs = not names.isdisjoint(("analyze", "analyse"))
        problems = () if all(names) else ("EXPLAIN with an option whose name is not read",)
    while at < len(read.tokens) and read.tokens[at].word in ("ANALYZE", "ANALYSE", "VERBOSE"):
        runs |= read.tokens[at].word != "VERBOSE"
        at += 1
    kind = "EXPLAIN_ANALYZE" if runs else "EXPLAIN"
    if read.words(at, at + 1) == ["EXECUTE"]:
        executed = _execute(StatementText(read.text, read.tokens[at:]))
        return replace(executed, kind=kind, problems=(*executed.problems, *problems), derived_output="QUERY PLAN")
    if not inner_query(read, at):
        return Utility(kind, ADMIN, problems=("EXPLAIN of something that is not a query",))
    inner = _query(read, at)
    return Utility(
        kind,
        inner.operations,
        probe=inner.probe,
        probe_offset=inner.probe_offset,
        problems=(*inner.problems, *problems),
        export=inner.export,
        derived_output="QUERY PLAN",
    )


def _option_names(read: StatementText, start: int, stop: int) -> frozenset[str]:
    """Of a list of options between `start` and `stop`; "" for one that is not read. A name may be quoted there."""
    return frozenset(read.name_at(at) for at in range(start, stop) if read.tokens[at - 1].text in ("(", ","))


def _lock(read: StatementText) -> Utility:
    at = 2 if read.words(1, 2) == ["TABLE"] else 1
    found = _named_tables(read, at, "LOCK", stops=frozenset({"IN", "NOWAIT"}))
    words = read.words()
    mode = words[words.index("IN") + 1 : words.index("IN") + 3] if "IN" in words else []
    # Every statement takes one of the three weakest modes; the others exist to keep everybody else out.
    if mode in (["ACCESS", "SHARE"], ["ROW", "SHARE"]):
        return replace(found, operations=READ, writes_probed=False)
    return found if mode == ["ROW", "EXCLUSIVE"] else replace(found, operations=ADMIN)


def _truncate(read: StatementText) -> Utility:
    at = 2 if read.words(1, 2) == ["TABLE"] else 1
    found = _named_tables(read, at, "TRUNCATE", stops=frozenset({"RESTART", "CONTINUE", "CASCADE", "RESTRICT"}))
    problems = found.problems
    if "CASCADE" in read.words():
        problems += ("CASCADE reaches tables the statement does not name",)
    return replace(found, kind="TRUNCATE", problems=problems, no_where=True)


def _named_tables(read: StatementText, start: int, kind: str, *, stops: frozenset[str]) -> Utility:
    end = next((i for i in range(start, len(read.tokens)) if read.tokens[i].word in stops), len(read.tokens))
    body = read.tokens[start:end]
    if not body or any(
        token.kind not in (TokenKind.WORD, TokenKind.QUOTED) and token.text not in ",.*" for token in body
    ):
        return Utility(kind, WRITE, problems=("a form that is not known",))
    listed = read.text[body[0].start : body[-1].end]
    return Utility(kind, WRITE, probe=f"SELECT FROM {listed}\n", writes_probed=True, writes_whole=True)


# --- definitions and administration ----------------------------------------------------------------------------------


def _create(read: StatementText) -> Utility:  # noqa: PLR0911, one return a form
    words = read.words()
    temp = names_temp(read)
    kind = "CREATE_" + next((w for w in words[1:6] if w in _OBJECTS), "OBJECT")
    if kind in (
        "CREATE_ROLE",
        "CREATE_USER",
        "CREATE_DATABASE",
        "CREATE_EXTENSION",
        "CREATE_SERVER",
        "CREATE_LANGUAGE",
    ):
        return Utility(kind, ADMIN, problems=("administration is not analysed",))
    if kind == "CREATE_INDEX":
        return read_index(read) or Utility(kind, DDL, problems=("definitions are not analysed",))
    made = temporary_table(read) if kind == "CREATE_TABLE" else None
    if made is not None and is_plain_table(read, made[1]):
        return Utility(kind, TEMP, creates=made[0], creates_temp=True)
    if kind in ("CREATE_TABLE", "CREATE_VIEW"):
        at = defining_query(read)
        if made is not None and inner_query(read, at):
            start, end = read.tokens[at].start, end_of_query(read)
            probe = read.text[start:end]
            return Utility(
                "CREATE_TABLE_AS", TEMP | READ, probe=probe, probe_offset=start, creates=made[0], creates_temp=True
            )
        if is_temporary_view(read) and inner_query(read, at):
            start, end = read.tokens[at].start, end_of_query(read)
            return Utility(kind, TEMP, probe=read.text[start:end], probe_offset=start, creates_temp=True)
        definition = read_definition(read, kind)
        if definition is not None:
            return definition
    return Utility(kind, DDL, problems=("definitions are not analysed",), creates_temp=temp)


_OBJECTS = words(
    """
    TABLE VIEW INDEX SEQUENCE FUNCTION PROCEDURE TRIGGER RULE SCHEMA TYPE DOMAIN ROLE USER DATABASE EXTENSION
    SERVER LANGUAGE POLICY AGGREGATE OPERATOR CAST COLLATION PUBLICATION SUBSCRIPTION STATISTICS
    """
)


def _ddl(read: StatementText) -> Utility:
    understood = read_drop(read) if read.tokens[0].word == "DROP" else None
    if understood is not None:
        return understood
    words = read.words(0, 2)
    if words[1:] in (["SYSTEM"], ["ROLE"], ["USER"], ["DATABASE"], ["EXTENSION"], ["SERVER"], ["DEFAULT"], ["OWNED"]):
        return Utility("_".join(words), ADMIN, problems=("administration is not analysed",))
    return Utility("_".join(word for word in words if word), DDL, problems=("definitions are not analysed",))


def _analyze(read: StatementText) -> Utility:
    return read_analyze(read) or _admin(read)


def _admin(read: StatementText) -> Utility:
    return Utility(read.tokens[0].word, ADMIN, problems=("administration is not analysed",))


def _opaque(read: StatementText) -> Utility:
    problem = "what its code does cannot be seen"
    return Utility(read.tokens[0].word, ADMIN, problems=(problem,), creates_temp=True)


_HANDLERS: dict[str, Callable[[StatementText], Utility]] = {
    **dict.fromkeys(("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"), read_transaction),
    "SET": read_set,
    "RESET": read_reset,
    "SHOW": read_show,
    "DISCARD": read_discard,
    "LISTEN": read_listen,
    "UNLISTEN": read_listen,
    "NOTIFY": read_notify,
    "PREPARE": _prepare,
    "EXECUTE": _execute,
    "DEALLOCATE": _deallocate,
    "DECLARE": _declare,
    "FETCH": _fetch,
    "MOVE": _fetch,
    "CLOSE": _close,
    "EXPLAIN": _explain,
    "COPY": read_copy,
    "LOCK": _lock,
    "TRUNCATE": _truncate,
    "CREATE": _create,
    "ALTER": _ddl,
    "DROP": _ddl,
    "COMMENT": _ddl,
    "REFRESH": _ddl,
    **dict.fromkeys(
        ("GRANT", "REVOKE", "REASSIGN", "SECURITY", "IMPORT", "LOAD", "VACUUM", "CLUSTER",
         "CHECKPOINT", "REINDEX"),
        _admin,
    ),
    "ANALYZE": _analyze,
    "ANALYSE": _analyze,
    "DO": _opaque,
    "CALL": _opaque,
}  # fmt: skip
