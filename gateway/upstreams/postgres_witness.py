"""The second reading: PostgreSQL's own, of one query, on a side connection, without running it.

`CREATE FUNCTION pg_temp.<random>(…) RETURNS void LANGUAGE sql BEGIN ATOMIC <query> ; END` (PostgreSQL 14) makes the
server parse and resolve the query and store its tree; the tree and its recorded dependencies are read back and the
transaction is rolled back. Nothing in the query can leave the wrapper: it travels by the extended protocol, which
takes one command; a second statement in the body shows as a second tree and is refused; the wrapper's tail starts on
a line of its own, so that no comment swallows it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.postgres import types as _BUILTIN_TYPES

from analysis.catalogue import Catalogue
from analysis.classified import Word
from analysis.making import quickly_made
from analysis.witness import Witness
from gateway.protocols.postgres.scrub import scrub_error
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_catalogue import read_catalogue, read_version
from gateway.upstreams.postgres_definitions import with_words
from gateway.upstreams.postgres_flight import Command, Fixed, Preparation, fly, prepare_all, rolled_back, rows_of

STATEMENT_TIMEOUT = "5s"
LOCK_TIMEOUT = "1s"
UNKNOWN_TYPE = 705
LOCK_NOT_AVAILABLE = "55P03"
CREATION_SCHEMA = "SELECT pg_catalog.current_schema()"
READ_BACK = """
SELECT p.prosqlbody::text,
  ARRAY(SELECT d.refclassid::pg_catalog.int8 || ':' || d.refobjid || ':' || d.refobjsubid
        FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid)
FROM pg_catalog.pg_proc p
WHERE p.proname = $1 AND p.pronamespace = pg_catalog.pg_my_temp_schema()
"""
# What is asked of every statement nobody has seen, known to a side connection from its start (`prepare`).
_BEGIN = Fixed("hoopweb_begin", "BEGIN")
_BEGIN_READING = Fixed("hoopweb_begin_reading", "BEGIN READ ONLY")
_SET_BOUNDS = (
    f"SELECT pg_catalog.set_config('statement_timeout', '{STATEMENT_TIMEOUT}', true), "
    "pg_catalog.set_config('lock_timeout', $1, true)"
)
_BOUNDS = Fixed("hoopweb_bounds", _SET_BOUNDS)
_BOUNDS_AND_PATH = Fixed("hoopweb_bounds_and_path", f"{_SET_BOUNDS}, pg_catalog.set_config('search_path', $2, true)")
_SETTING = Fixed("hoopweb_setting", "SELECT pg_catalog.set_config($1, $2, true)")
_USUAL_PATH = Fixed("hoopweb_usual_path", "SET LOCAL search_path TO DEFAULT")
_CREATION_SCHEMA = Fixed("hoopweb_creation_schema", CREATION_SCHEMA)
_OUR_PATH = Fixed("hoopweb_our_path", "SELECT pg_catalog.set_config('search_path', '', true)")
_READ_BACK = Fixed("hoopweb_read_back", READ_BACK)
_ROLLBACK = Fixed("hoopweb_rollback", "ROLLBACK")
_FIXED = (
    _BEGIN,
    _BEGIN_READING,
    _BOUNDS,
    _BOUNDS_AND_PATH,
    _SETTING,
    _USUAL_PATH,
    _CREATION_SCHEMA,
    _OUR_PATH,
    _READ_BACK,
    _ROLLBACK,
)
# Those without parameters.
_BEGINS, _BEGINS_READING, _ROLLS_BACK = _BEGIN(), _BEGIN_READING(), _ROLLBACK()
_TAKES_USUAL_PATH, _TAKES_OUR_PATH, _TELLS_CREATION_SCHEMA = _USUAL_PATH(), _OUR_PATH(), _CREATION_SCHEMA()
# The schema pg_temp stands for is made by whoever first needs it. Committed here, with nothing in it, it need not be
# made and undone with every probe, which costs as much as reading the statement.
_OWN_SCHEMA = (
    "BEGIN",
    "CREATE FUNCTION pg_temp.hoopweb_side() RETURNS void LANGUAGE sql BEGIN ATOMIC END",
    "DROP FUNCTION pg_temp.hoopweb_side()",
    "COMMIT",
)
# None of these can be planned better for one name than for all. The server would still plan each anew five times, and
# again for hundreds of times after an autovacuum has made the plan it kept look dear; that takes it longer than running
# it. (Before PostgreSQL 12 there is no such setting.)
_PLAN_ONCE = (
    "SELECT pg_catalog.set_config(name, 'force_generic_plan', false) FROM pg_catalog.pg_settings "
    "WHERE name OPERATOR(pg_catalog.=) 'plan_cache_mode'"
)
# A tree of two kilobytes, that of five joined tables for instance, is compressed before it is kept, though it is undone
# a moment later: LZ4 takes a fraction of the time of PostgreSQL's own. (There since 14, where the server was built so.)
_COMPRESS_QUICKLY = (
    "SELECT pg_catalog.set_config(name, 'lz4', false) FROM pg_catalog.pg_settings WHERE name "
    "OPERATOR(pg_catalog.=) 'default_toast_compression' AND 'lz4' OPERATOR(pg_catalog.=) ANY (enumvals)"
)
# What a type is called wherever the name is read: unqualified it may be that of a temporary table, found first.
QUALIFIED_TYPE = "pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname)"
TO_BE_INFERRED = "pg_catalog.unknown"
_TYPE_NAMES = f"""
SELECT {QUALIFIED_TYPE}
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int8[])) WITH ORDINALITY AS o(oid, n)
  LEFT JOIN pg_catalog.pg_type t ON t.oid = o.oid::pg_catalog.oid
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
ORDER BY o.n
"""  # noqa: S608, a name of ours
_PARAMETERS_OF = """
SELECT parameter_types::pg_catalog.oid[]::pg_catalog.int8[] FROM pg_catalog.pg_prepared_statements WHERE name = $1
"""
# The catalogues a statement's dependencies are recorded in, by their own OIDs (src/include/catalog/pg_*.h).
_CLASS, _PROC, _OPERATOR, _TYPE = 1259, 1255, 2617, 1247
_FIRST_GENERATED_OID = 10_000  # FirstGenbkiObjectId (src/include/access/transam.h): below it OIDs never change
# What the database says about the text itself. Everything else is about the wrapper or the moment: no second reading.
_ABOUT_THE_TEXT = ("42", "22")
_ABOUT_THE_WRAPPER = frozenset({"42501", "42P13", "42723"})
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class NoWitness(Exception):
    """The database could not or would not read the statement; the message says why in words of ours."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Question:
    """A query to be read as the session would. `offset` is its place in the client's text, -1 for none."""

    text: str
    role: str = ""
    search_path: str = ""
    parameter_count: int = 0
    parameter_types: tuple[int, ...] = ()
    offset: int = 0
    declared_types: str = ""  # PREPARE name (…): as the client wrote them
    lock_timeout: str = LOCK_TIMEOUT
    makes: bool = False  # a relation is made of it: the witness tells in which schema
    asker: str = ""  # the principal: one gets a share of the connections, whatever its sessions


async def prepare(connection: AsyncConnection[Any]) -> None:
    """Make a new side connection ready for `ask` and `ask_plan`. Raises psycopg.Error."""
    await prepare_all(connection, _FIXED)
    await connection.execute(_PLAN_ONCE)
    await connection.execute(_COMPRESS_QUICKLY)
    try:
        await fly(connection, [Command(text) for text in _OWN_SCHEMA])
    except psycopg.Error as error:  # no right to, or a server that only reads: then it has no reading to give either
        if error.diag.sqlstate is None:
            raise
    finally:
        await rolled_back(connection)


async def ask(
    connection: AsyncConnection[Any],
    question: Question,
    catalogue: Catalogue,
    *,
    meanwhile: Callable[[], None] | None = None,
) -> Witness:
    """Return the database's reading. Raises UpstreamRejected or NoWitness. `meanwhile` is called as it reads."""
    try:
        has_parameters = question.parameter_count or question.declared_types
        types = await _parameter_types(connection, question) if has_parameters else ()
        return await _probe(connection, question, types, catalogue, meanwhile)
    except psycopg.OperationalError as error:
        if error.diag.sqlstate is None:
            raise
        raise NoWitness("the database did not read the statement in time") from None
    finally:
        await rolled_back(connection)


async def ask_plan(connection: AsyncConnection[Any], question: Question) -> object:
    """Return the plan, as `EXPLAIN (FORMAT JSON)` spells it, for every value of the parameters; None without one.

    It quotes the statement's values: counts are read off it (`analysis.estimate`), and it goes nowhere. Plans, never
    runs. Ask only for what was completely analysed: planning evaluates functions of constants.
    """
    try:
        if question.parameter_count:
            asked, after = await _explained_prepared(connection, question)
        else:
            asked, after = [Command(f"EXPLAIN (FORMAT JSON)\n{question.text}")], []
        commands = [_BEGINS_READING, *_assumed(connection, question), *asked, _ROLLS_BACK, *after]
        answer = (await fly(connection, commands))[-2 - len(after)]
    except psycopg.Error as error:
        if error.diag.sqlstate is None:
            raise
        await rolled_back(connection)
        if question.parameter_count:
            await connection.execute("DEALLOCATE ALL")  # prepared statements outlive the transaction
            await prepare(connection)
        return None
    rows = rows_of(answer)
    return json.loads(rows[0][0] or "null") if rows else None


async def _explained_prepared(
    connection: AsyncConnection[Any], question: Question
) -> tuple[list[Command], list[Command]]:
    """The commands that plan a statement with parameters, and those that forget it again."""
    name = f"probe_{secrets.token_hex(8)}"
    types = ", ".join(await _declared(connection, question))
    nulls = ", ".join(["NULL"] * question.parameter_count)
    asked = [
        Command(f"PREPARE {name} ({types}) AS\n{question.text}"),
        _SETTING("plan_cache_mode", "force_generic_plan"),
        Command(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})"),
    ]
    return asked, [Command(f"DEALLOCATE {name}")]


async def load_catalogue(connection: AsyncConnection[Any], words: Sequence[Word] = ()) -> Catalogue:
    """Read version and schema in one snapshot, and hold a person's words about functions against their code."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        version = await read_version(connection)
        return await with_words(connection, await read_catalogue(connection, version), words)
    finally:
        await rolled_back(connection)


async def _probe(
    connection: AsyncConnection[Any],
    question: Question,
    types: tuple[tuple[int, str], ...],
    catalogue: Catalogue,
    meanwhile: Callable[[], None] | None,
) -> Witness:
    name = f"probe_{secrets.token_hex(8)}"
    head, command = wrapped(name, question.text, types)
    commands = [
        _BEGINS,
        *_assumed(connection, question),
        Command(command),
        *([_TELLS_CREATION_SCHEMA] if question.makes else []),
        _TAKES_OUR_PATH,
        _READ_BACK(name),
        _ROLLS_BACK,
    ]
    try:
        *_, place, _, answer, _ = await fly(connection, commands, meanwhile=meanwhile)
    except psycopg.Error as error:
        raise _rejection(error, head_length=len(head), question=question) from None
    rows = rows_of(answer)
    tree, dependencies = rows[0] if len(rows) == 1 else (None, None)
    if tree is None:
        raise NoWitness("the database kept no reading of the statement")
    witness = witness_of(tree, dependencies or "", catalogue, tuple(oid for oid, _ in types))
    return replace(witness, creation_schema=rows_of(place)[0][0] or "") if question.makes else witness


def wrapped(name: str, text: str, types: tuple[tuple[int, str], ...]) -> tuple[str, str]:
    """What stands before the query, and the whole command that makes the server read and keep it."""
    head = (
        f"CREATE FUNCTION pg_temp.{name}({', '.join(each for _, each in types)}) "
        "RETURNS void LANGUAGE sql BEGIN ATOMIC\n"
    )
    return head, f"{head}{text}\n;\nEND"


def _assumed(connection: AsyncConnection[Any], question: Question) -> list[Command]:
    """Stand where the session stands: its role and search_path decide what names mean."""
    commands = []
    if question.role and question.role != connection.info.user:
        commands.append(_SETTING("role", question.role))
    if question.search_path:
        commands.append(_BOUNDS_AND_PATH(question.lock_timeout, question.search_path))
    else:
        commands += [_BOUNDS(question.lock_timeout), _TAKES_USUAL_PATH]
    return commands


def witness_of(tree: str, dependencies: str, catalogue: Catalogue, types: tuple[int, ...]) -> Witness:
    """`dependencies` is the array `READ_BACK` gives, as text: `{class:object:part,…}`."""
    found: dict[int, set[tuple[int, int]]] = {_CLASS: set(), _PROC: set(), _OPERATOR: set(), _TYPE: set()}
    for dependency in filter(None, dependencies.strip("{}").split(",")):
        kind, oid, sub = map(int, dependency.split(":"))
        found.setdefault(kind, set()).add((oid, sub))
    return Witness(
        tree=tree,
        catalogue=catalogue,
        columns=frozenset((oid, sub) for oid, sub in found[_CLASS] if sub),
        relations=frozenset(
            oid for oid, _ in found[_CLASS] if oid not in catalogue.relations or catalogue.relations[oid].kind != "S"
        ),
        functions=frozenset(oid for oid, _ in found[_PROC]),
        operators=frozenset(oid for oid, _ in found[_OPERATOR]),
        types=frozenset(oid for oid, _ in found[_TYPE]),
        parameter_types=types,
    )


# --- parameters ------------------------------------------------------------------------------------------------------


async def _parameter_types(connection: AsyncConnection[Any], question: Question) -> tuple[tuple[int, str], ...]:
    """(OID, name) of every parameter: as declared, or as the server infers them by preparing the query."""
    found = padded(question)
    if question.declared_types:
        found = await _declared_inside(connection, question)
    elif any(oid in (0, UNKNOWN_TYPE) for oid in found):
        found = await _inferred(connection, question, found)
    names = await _type_names(connection, found)
    if not all(names):
        raise NoWitness("a parameter of a type the database does not know")
    return tuple(zip(found, names, strict=True))


def padded(question: Question) -> tuple[int, ...]:
    """One OID a parameter, 0 where the client leaves it to the server."""
    return (question.parameter_types + (0,) * question.parameter_count)[: question.parameter_count]


async def _type_names(connection: AsyncConnection[Any], oids: Sequence[int]) -> list[str]:
    """What the types are called on every search_path; '' for one that is not there."""
    if all(oid in _BUILTIN_NAMES for oid in oids):
        return [_BUILTIN_NAMES[oid] for oid in oids]
    (answer,) = await fly(connection, [Command(_TYPE_NAMES, ("{" + ",".join(map(str, oids)) + "}",))])
    return [name or "" for (name,) in rows_of(answer)]


def _builtin_names() -> dict[int, str]:
    names = {}
    for info in _BUILTIN_TYPES:
        name = info.name.strip('"')
        names[info.oid] = f'pg_catalog."{name}"'
        if info.array_oid:
            names[info.array_oid] = f'pg_catalog."_{name}"'
    return {oid: name for oid, name in names.items() if oid < _FIRST_GENERATED_OID}


_BUILTIN_NAMES = _builtin_names()


async def _declared(connection: AsyncConnection[Any], question: Question) -> list[str]:
    """The parameters' types by name, `TO_BE_INFERRED` where the server is to."""
    declared = padded(question)
    names = await _type_names(connection, declared)
    return [TO_BE_INFERRED if oid in (0, UNKNOWN_TYPE) else text for oid, text in zip(declared, names, strict=True)]


async def _inferred(connection: AsyncConnection[Any], question: Question, declared: tuple[int, ...]) -> tuple[int, ...]:
    preparation = Preparation(question.text, declared)
    commands: list[Command | Preparation] = [_BEGINS, *_assumed(connection, question), preparation, _ROLLS_BACK]
    try:
        *_, described, _ = await fly(connection, commands)
    except psycopg.Error as error:
        raise _rejection(error, head_length=0, question=question) from None
    return tuple(described.param_type(index) for index in range(described.nparams))


async def _declared_inside(connection: AsyncConnection[Any], question: Question) -> tuple[int, ...]:
    """As the types a PREPARE lists by name turn out."""
    name = f"probe_{secrets.token_hex(8)}"
    head = f"PREPARE {name} ({question.declared_types}) AS\n"
    commands = [
        _BEGINS,
        *_assumed(connection, question),
        Command(head + question.text),
        _TAKES_OUR_PATH,  # an operator of the client's path must not choose which statement is told of
        Command(_PARAMETERS_OF, (name,)),
        Command(f"DEALLOCATE {name}"),
        _ROLLS_BACK,
    ]
    try:
        *_, answer, _, _ = await fly(connection, commands)
    except psycopg.Error as error:
        raise _rejection(error, head_length=len(head), question=question) from None
    listed = (rows_of(answer)[0][0] or "").strip("{}")
    return tuple(int(oid) for oid in listed.split(",") if oid)


# --- refusals --------------------------------------------------------------------------------------------------------


def _rejection(error: psycopg.Error, *, head_length: int, question: Question) -> Exception:
    """What an error means: the text is wrong, or there is no second reading."""
    state = error.diag.sqlstate
    if state is None:
        return error
    told = {"C": state, "M": error.diag.message_primary, "W": error.diag.context, "q": error.diag.internal_query}
    fields = {code: text for code, text in told.items() if text}
    return rejection(fields, int(error.diag.statement_position or 0) - head_length, question=question)


def rejection(fields: Mapping[str, str], place: int, *, question: Question) -> UpstreamRejected | NoWitness:
    """The same of an error's fields; `place` counts from the start of the question's text, and may lie outside."""
    state = fields.get("C", "")
    if state == LOCK_NOT_AVAILABLE:
        return UpstreamRejected(sqlstate=state, message="canceling statement due to lock timeout")
    if not state.startswith(_ABOUT_THE_TEXT) or state in _ABOUT_THE_WRAPPER:
        return NoWitness("the database takes no statement of this kind for a second reading")
    # The input of a literal is run while it is read: the check of a domain inside a row or an array is code, and says
    # what it likes under any SQLSTATE.
    kept = scrub_error(fields, statement=question.text, parsing=True)["M"]
    message = scrubbed(state, kept or "the database refused the statement")
    if state == "42601" and place > len(question.text):
        # It stumbled over our own tail: the client's text ended too early.
        message, place = "syntax error at end of input", len(question.text) + 1
    inside = question.offset >= 0 and 0 < place <= len(question.text) + 1
    return UpstreamRejected(sqlstate=state, message=message, position=place + question.offset if inside else 0)


def scrubbed(sqlstate: str, message: str) -> str:
    """A server's message without values: data exceptions and syntax errors quote what they stumbled over."""
    if sqlstate.startswith("22") or sqlstate == "42601":
        return _QUOTED.sub('"…"', message)
    return message
