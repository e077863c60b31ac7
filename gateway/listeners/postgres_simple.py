"""The simple protocol: one Query may hold many statements; each is decided and sent alone.

Every part goes upstream as Parse/Bind/Describe/Execute of the unnamed statement, because Parse refuses more than one
command: what runs is exactly what was analysed. The answers lose what a simple Query would not have had. One Sync ends
the whole, so the parts share a transaction like the server's own simple Query. (A remembered statement without a
semicolon inside cannot be more than one, and goes as the Query it came as: `postgres_express`.)
"""

from __future__ import annotations

from functools import partial

from analysis.split import StatementPart, split_statements
from gateway.domain.long_texts import read_beside
from gateway.listeners.postgres_block import ends_or_begins
from gateway.listeners.postgres_copy import converse, copied_columns
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_text import first_word, means_one_thing
from gateway.listeners.postgres_transport import StatementTransport
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.session.context import StatementRequest
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import run_statement
from gateway.session.remembered import authorise_again, recall
from gateway.upstreams.postgres_execution import Execution, Shape
from gateway.upstreams.postgres_expectations import Complete, Description, Local, Result

_BIND = client.encode_bind(Bind("", "", (), (), ()))
_DESCRIBE = client.encode_describe(Target("P", ""))
_EXECUTE = client.encode_execute(Execute("", 0))

# A batch of more statements than this is a script; it belongs into several queries.
MAX_PARTS = 10_000


async def simple_query(session: ClientSession, text: str) -> None:
    """Serve one Query message, ReadyForQuery included."""
    if _run_known(session, text):
        return
    await session.drained()
    session.statements.forget("")  # a simple Query destroys the unnamed statement and portal
    session.portals.forget("")
    split = partial(split_statements, text, standard_conforming_strings=session.meaning.standard_strings)
    parts = await read_beside(session.context.principal.subject, len(text), split)
    if not parts:
        session.relay.push(Local(server.EMPTY_QUERY_FRAME))
    if any(not part.lexable for part in parts):
        _only_parse(session, text)
        parts = ()
    if len(parts) > MAX_PARTS:
        session.refuse(server.error(sqlstate="54000", message=f"more than {MAX_PARTS} statements in one query"))
        parts = ()
    await _run_parts(session, parts, text)
    await session.end_request()


def _run_known(session: ClientSession, text: str) -> bool:
    """Run a single remembered statement without waiting for anything; False when it is not one, or must wait."""
    if not (session.relay.idle and session.settled) or session.block.own:
        return False
    part = whole_statement(text)
    if part is None or not means_one_thing(part):
        return False
    known = recall(session.services, session.context, part)
    if known is None:
        return False
    permit = authorise_again(session.services, session.context, StatementRequest(text=part), known)
    if permit is None:
        return False
    session.statements.forget("")
    session.portals.forget("")
    _send(session, permit, offset=0, ended=part != text, last=True)
    session.sync()
    return True


def whole_statement(text: str) -> str | None:
    """The text without its one closing semicolon, as `split_statements` would give it; None when only it can tell.

    No semicolon is left inside, so there is nothing to split, whatever is quoted.
    """
    part = text[:-1] if text.endswith(";") else text
    return None if ";" in part or part != part.strip() else part


def _only_parse(session: ClientSession, text: str) -> None:
    """What our lexer cannot read is never run. Parsing runs nothing: the server's own error is heard, or else ours."""
    expectation = Complete(server.PARSE_COMPLETE, hidden=True, text=text)
    session.ask(expectation, client.encode_parse(Parse("", text, ())))
    session.refuse(server.error(sqlstate="42601", message="the statements of this query cannot be told apart"))


async def _run_parts(session: ClientSession, parts: tuple[StatementPart, ...], text: str) -> None:
    for number, part in enumerate(parts, start=1):
        await session.settle()
        ended = text.startswith(";", part.offset + len(part.text))
        await _run_part(session, part, ended=ended, last=number == len(parts))
        if number < len(parts):
            await session.drained()
        if session.relay.skipping or session.relay.broken or session.reason:
            return


async def _run_part(session: ClientSession, part: StatementPart, *, ended: bool, last: bool) -> None:
    request = StatementRequest(text=part.text)

    async def send(permit: ExecutionPermit) -> None:
        # Positions in errors count from the start of the client's query; a reviewer's text has no place in it.
        own = permit.statement == part.text
        await send_statement(session, permit, offset=part.offset if own else 0, ended=own and ended, last=last)

    await session.two_phase.before(part.text)
    transport = StatementTransport(session, execute=send, may_modify=True, offset=part.offset)
    await run_statement(session.services, session.context, request, transport)


async def send_statement(
    session: ClientSession, permit: ExecutionPermit, *, offset: int, ended: bool, last: bool = True
) -> None:
    """Send a permitted statement as an unnamed one; its answers look like a simple Query's.

    `ended`: with the semicolon it had in the query, which messages ("at or near") and catalogues repeat. `last`: the
    query ends with it, and is committed before anything is told of its end.
    """
    if await refused_two_phase(session, permit):
        return
    copying = first_word(permit.statement) == "copy"
    columns = await copied_columns(session, permit) if copying else ()
    if columns is None:
        return
    if session.block.own and ends_or_begins(permit.statement):
        last = False  # whose transaction it is from here on must be known before the query's end
    execution = _send(session, permit, offset=offset, ended=ended, last=last, copy_columns=columns)
    if copying:
        await converse(session, execution, simple=True)


def _send(
    session: ClientSession,
    permit: ExecutionPermit,
    *,
    offset: int,
    ended: bool,
    last: bool,
    copy_columns: tuple[server.Field, ...] = (),
) -> Execution:
    execution = session.start(permit, copy_columns=copy_columns)
    text = permit.statement
    parse = client.encode_parse(Parse("", f"{text};" if ended else text, ()))
    parsed = Complete(server.PARSE_COMPLETE, hidden=True, execution=execution, text=text, offset=offset)
    session.ask(parsed, parse)
    session.ask(Complete(server.BIND_COMPLETE, hidden=True, execution=execution, text=text), _BIND)
    session.ask(Description(Shape(), rows_only=True, execution=execution), _DESCRIBE)
    session.ask(Result(execution, offset=offset, last_of_query=last), _EXECUTE)
    return execution


async def refused_two_phase(session: ClientSession, permit: ExecutionPermit) -> bool:
    """Refuse what must not be prepared, or not be ended, after all."""
    why = await session.two_phase.refused(permit)
    if why is not None:
        permit.complete(Outcome(status="failed", error=why.sqlstate))
        session.refuse(why.frame)
    return why is not None
