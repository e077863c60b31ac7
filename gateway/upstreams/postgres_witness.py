"""The second reading: PostgreSQL's own, of one query, on a side connection, without running it.

`CREATE FUNCTION pg_temp.<random>(…) RETURNS void LANGUAGE sql BEGIN ATOMIC <query> ; END` (PostgreSQL 14) makes the
server parse and resolve the query and store its tree; the tree and its recorded dependencies are read back and the
transaction is rolled back. Nothing in the query can leave the wrapper: it travels by the extended protocol, which
takes one command; a second statement in the body shows as a second tree and is refused; the wrapper's tail starts on
a line of its own, so that no comment swallows it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from analysis.catalogue import Catalogue
from analysis.classified import Word
from analysis.witness import Witness
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_catalogue import read_catalogue, read_version
from gateway.upstreams.postgres_definitions import with_words

STATEMENT_TIMEOUT = "5s"
LOCK_TIMEOUT = "1s"
UNKNOWN_TYPE = 705
LOCK_NOT_AVAILABLE = "55P03"
CREATION_SCHEMA = "SELECT pg_catalog.current_schema()"
READ_BACK = """
SELECT p.prosqlbody::text,
  ARRAY(SELECT d.refclassid::pg_catalog.regclass::text || ':' || d.refobjid || ':' || d.refobjsubid
        FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid)
FROM pg_catalog.pg_proc p
WHERE p.proname = %s AND p.pronamespace = pg_catalog.pg_my_temp_schema()
"""
# What the database says about the text itself. Everything else is about the wrapper or the moment: no second reading.
_ABOUT_THE_TEXT = ("42", "22")
_ABOUT_THE_WRAPPER = frozenset({"42501", "42P13", "42723"})
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class NoWitness(Exception):
    """The database could not or would not read the statement; the message says why in words of ours."""


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


async def ask(connection: AsyncConnection[Any], question: Question, catalogue: Catalogue) -> Witness:
    """Return the database's reading. Raises UpstreamRejected or NoWitness."""
    try:
        has_parameters = question.parameter_count or question.declared_types
        types = await _parameter_types(connection, question) if has_parameters else ()
        return await _probe(connection, question, types, catalogue)
    except psycopg.OperationalError as error:
        if error.diag.sqlstate is None:
            raise
        raise NoWitness("the database did not read the statement in time") from None
    finally:
        await _rolled_back(connection)


async def ask_plan(connection: AsyncConnection[Any], question: Question) -> object:
    """Return the plan, as `EXPLAIN (FORMAT JSON)` spells it, for every value of the parameters; None without one.

    It quotes the statement's values: counts are read off it (`analysis.estimate`), and it goes nowhere. Plans, never
    runs. Ask only for what was completely analysed: planning evaluates functions of constants.
    """
    name = f"probe_{secrets.token_hex(8)}"
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN READ ONLY")
            await _assume(connection, question)
            if question.parameter_count:
                types = ", ".join(await _declared(connection, question))
                await connection.execute(f"PREPARE {name} ({types}) AS\n{question.text}".encode())
                await connection.execute("SELECT pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)")
                nulls = ", ".join(["NULL"] * question.parameter_count)
                answer = await connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})".encode())
            else:
                answer = await connection.execute(f"EXPLAIN (FORMAT JSON)\n{question.text}".encode())
            row = await answer.fetchone()
    except psycopg.Error as error:
        if error.diag.sqlstate is None:
            raise
        return None
    finally:
        await _rolled_back(connection)
        if question.parameter_count and not connection.closed:
            await connection.execute("DEALLOCATE ALL")  # prepared statements outlive the transaction
    return row[0] if row else None


async def load_catalogue(connection: AsyncConnection[Any], words: Sequence[Word] = ()) -> Catalogue:
    """Read version and schema in one snapshot, and hold a person's words about functions against their code."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        version = await read_version(connection)
        return await with_words(connection, await read_catalogue(connection, version), words)
    finally:
        await _rolled_back(connection)


async def _rolled_back(connection: AsyncConnection[Any]) -> None:
    if not connection.closed:
        await connection.rollback()


async def _probe(
    connection: AsyncConnection[Any], question: Question, types: tuple[tuple[int, str], ...], catalogue: Catalogue
) -> Witness:
    name = f"probe_{secrets.token_hex(8)}"
    head, command = wrapped(name, question.text, types)
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await _assume(connection, question)
            await connection.execute(command.encode())
            place = await connection.execute(CREATION_SCHEMA) if question.makes else None
            await connection.execute("SELECT pg_catalog.set_config('search_path', '', true)")
            answer = await connection.execute(READ_BACK, (name,))
            await connection.execute("ROLLBACK")
            rows = await answer.fetchall()
            schema = await place.fetchone() if place is not None else None
    except psycopg.Error as error:
        raise _rejection(error, head_length=len(head), question=question) from None
    if len(rows) != 1 or rows[0][0] is None:
        raise NoWitness("the database kept no reading of the statement")
    tree, dependencies = rows[0]
    witness = witness_of(tree, dependencies, catalogue, tuple(oid for oid, _ in types))
    return replace(witness, creation_schema=schema[0] or "") if schema is not None else witness


def wrapped(name: str, text: str, types: tuple[tuple[int, str], ...]) -> tuple[str, str]:
    """What stands before the query, and the whole command that makes the server read and keep it."""
    head = (
        f"CREATE FUNCTION pg_temp.{name}({', '.join(each for _, each in types)}) "
        "RETURNS void LANGUAGE sql BEGIN ATOMIC\n"
    )
    return head, f"{head}{text}\n;\nEND"


async def _assume(connection: AsyncConnection[Any], question: Question) -> None:
    """Stand where the session stands: its role and search_path decide what names mean."""
    settings = {"statement_timeout": STATEMENT_TIMEOUT, "lock_timeout": question.lock_timeout}
    if question.role and question.role != connection.info.user:
        settings["role"] = question.role
    if question.search_path:
        settings["search_path"] = question.search_path
    chosen = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(settings))
    await connection.execute(f"SELECT {chosen}".encode(), [word for pair in settings.items() for word in pair])
    if not question.search_path:
        await connection.execute("SET LOCAL search_path TO DEFAULT")


def witness_of(tree: str, dependencies: list[str], catalogue: Catalogue, types: tuple[int, ...]) -> Witness:
    found: dict[str, set[tuple[int, int]]] = {}
    for dependency in dependencies:
        kind, oid, sub = dependency.rsplit(":", 2)
        found.setdefault(kind.removeprefix("pg_catalog."), set()).add((int(oid), int(sub)))
    classes = found.get("pg_class", set())
    return Witness(
        tree=tree,
        catalogue=catalogue,
        columns=frozenset((oid, sub) for oid, sub in classes if sub),
        relations=frozenset(
            oid for oid, _ in classes if oid not in catalogue.relations or catalogue.relations[oid].kind != "S"
        ),
        functions=frozenset(oid for oid, _ in found.get("pg_proc", set())),
        operators=frozenset(oid for oid, _ in found.get("pg_operator", set())),
        types=frozenset(oid for oid, _ in found.get("pg_type", set())),
        parameter_types=types,
    )


# --- parameters ------------------------------------------------------------------------------------------------------


async def _parameter_types(connection: AsyncConnection[Any], question: Question) -> tuple[tuple[int, str], ...]:
    """(OID, name) of every parameter: as declared, or as the server infers them by preparing the query."""
    declared = (question.parameter_types + (0,) * question.parameter_count)[: question.parameter_count]
    if question.declared_types or any(oid in (0, UNKNOWN_TYPE) for oid in declared):
        declared = await _inferred(connection, question)
    names = await _type_names(connection, declared)
    if any(name in ("???", "-", "") for name in names):
        raise NoWitness("a parameter of a type the database does not know")
    return tuple(zip(declared, names, strict=True))


async def _type_names(connection: AsyncConnection[Any], oids: tuple[int, ...]) -> list[str]:
    answer = await connection.execute(
        "SELECT pg_catalog.format_type(o::pg_catalog.oid, NULL) "
        "FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.int8[])) WITH ORDINALITY AS t(o, n) ORDER BY n",
        (list(oids),),
    )
    return [str(row[0] or "") for row in await answer.fetchall()]


async def _declared(connection: AsyncConnection[Any], question: Question) -> list[str]:
    """The parameters' types by name, `unknown` where the server is to infer them."""
    declared = (question.parameter_types + (0,) * question.parameter_count)[: question.parameter_count]
    if all(oid in (0, UNKNOWN_TYPE) for oid in declared):
        return ["unknown"] * len(declared)
    known = await _type_names(connection, declared)
    return ["unknown" if oid in (0, UNKNOWN_TYPE) else text for oid, text in zip(declared, known, strict=True)]


async def _inferred(connection: AsyncConnection[Any], question: Question) -> tuple[int, ...]:
    name = f"probe_{secrets.token_hex(8)}"
    types = ", ".join(await _declared(connection, question))
    head = f"PREPARE {name} ({question.declared_types or types}) AS\n"
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await _assume(connection, question)
            await connection.execute((head + question.text).encode())
            answer = await connection.execute(
                "SELECT parameter_types::pg_catalog.oid[]::pg_catalog.int8[] FROM pg_catalog.pg_prepared_statements "
                "WHERE name = %s",
                (name,),
            )
            rows = await answer.fetchall()
            await connection.execute(sql.SQL("DEALLOCATE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise _rejection(error, head_length=len(head), question=question) from None
    await _rolled_back(connection)
    return tuple(rows[0][0])


# --- refusals --------------------------------------------------------------------------------------------------------


def _rejection(error: psycopg.Error, *, head_length: int, question: Question) -> Exception:
    """What an error means: the text is wrong, or there is no second reading."""
    state = error.diag.sqlstate
    if state is None:
        return error
    primary, position = error.diag.message_primary or "", int(error.diag.statement_position or 0)
    return rejection(state, primary, position - head_length, question=question)


def rejection(state: str, primary: str, place: int, *, question: Question) -> UpstreamRejected | NoWitness:
    """The same of an error's fields; `place` counts from the start of the question's text, and may lie outside."""
    if state == LOCK_NOT_AVAILABLE:
        return UpstreamRejected(sqlstate=state, message="canceling statement due to lock timeout")
    if not state.startswith(_ABOUT_THE_TEXT) or state in _ABOUT_THE_WRAPPER:
        return NoWitness("the database takes no statement of this kind for a second reading")
    message = scrubbed(state, primary or "the database refused the statement")
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
