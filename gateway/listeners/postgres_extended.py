"""The extended protocol: Parse, Bind, Describe, Execute, Close, each decided when it can first do something.

- Parse only reads names, so anything that is not a plain denial may be parsed.
- Bind plans, and planning can run immutable functions: what needs approval is held here, where the values are known,
  and the permit it leaves serves the portal's first Execute.
- Execute is decided and recorded every time: a portal may outlive the rule or grant that allowed its Parse.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from analysis.split import split_statements
from analysis.statement import Analysis
from approvals.domain.request import Deny, RequireApproval
from gateway.domain.long_texts import read_beside
from gateway.listeners.postgres_block import ends_or_begins
from gateway.listeners.postgres_copy import converse, copied_columns
from gateway.listeners.postgres_names import Names, Portal, Prepared
from gateway.listeners.postgres_session import ClientSession
from gateway.listeners.postgres_simple import refused_two_phase
from gateway.listeners.postgres_text import SELF_CONTAINED, first_word, means_one_thing
from gateway.listeners.postgres_transport import StatementTransport
from gateway.protocols.postgres import client, server
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.session.approval import still_approved
from gateway.session.assessment import Assessment, Denied, assess, denied_by
from gateway.session.context import StatementRequest
from gateway.session.emergency import is_outlived
from gateway.session.known import KnownStatement
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.pipeline import refuse, run_statement
from gateway.session.remembered import authorise_known, recall, remember
from gateway.upstreams.postgres_execution import BoundShape, Execution, Shape
from gateway.upstreams.postgres_expectations import Complete, Description, Expectation, Result

# NAMEDATALEN - 1: longer names of statements and portals are the same to the server where they begin alike.
MAX_NAME_BYTES = 63

_PARSED_BEFORE = "names in this statement mean something else than when it was parsed"
_BOUND_BEFORE = "names in this statement mean something else than when the portal was bound"


async def parse(session: ClientSession, message: Parse) -> None:
    if _is_cut(session, message.name):
        return
    if session.statements.full:
        session.refuse(server.error(sqlstate="54000", message="too many prepared statements in this session"))
        return
    known = _known(session, message.text, message.types)
    if known is not None:
        _send_parse(session, message, message.text, known.analysis_of(message.text, message.types))
        return
    # Nothing is sent for an empty text but an empty text of ours: then nothing can hide in it.
    asker, whole = session.context.principal.subject, message.text
    text = whole if await read_beside(asker, len(whole), partial(split_statements, whole)) else ""
    analysis = None
    if text:
        request = StatementRequest(text=text, parameter_types=message.types)
        assessment = await _assess(session, request)
        if assessment is None:
            return
        analysis = assessment.analysis
    _send_parse(session, message, text, analysis)


def _known(session: ClientSession, text: str, types: tuple[int, ...]) -> KnownStatement | None:
    """The plain Allow that assessing would end in, where nothing that is under way can change what the text means."""
    if not session.settled or not means_one_thing(text) or (session.block.own and ends_or_begins(text)):
        return None
    return recall(session.services, session.context, text, types)


def _send_parse(session: ClientSession, message: Parse, text: str, analysis: Analysis | None) -> None:
    entry = Prepared(
        message.name,
        text,
        message.types,
        analysis,
        fixed=means_one_thing(text),
        settings=session.context.settings,
    )
    session.ask(parse_expectation(session, entry), client.encode_parse(Parse(message.name, text, message.types)))


def parse_expectation(session: ClientSession, entry: Prepared) -> Expectation:
    """Propose the name and say what its Parse will be answered with."""
    session.plans.parsing()
    session.statements.propose(entry.name, entry)
    return Complete(
        server.PARSE_COMPLETE,
        done=partial(session.statements.commit, entry.name, entry),
        undone=partial(session.statements.withdraw, entry.name, entry),
        text=entry.text,
    )


async def bind(session: ClientSession, message: Bind) -> None:
    if _is_cut(session, message.portal):
        return
    await _certain(session, session.statements, message.statement)
    await session.settle()  # names may have changed meanwhile
    statement = session.statements.get(message.statement)
    if statement is None:
        session.refuse(missing("prepared statement", message.statement, sqlstate="26000"))
        return
    if session.portals.full:
        session.refuse(server.error(sqlstate="54000", message="too many portals in this session"))
        return
    portal = Portal(message.portal, statement, message, BoundShape(statement.shape, message.result_formats))
    portal.settings = session.context.settings
    if not statement.text:
        _send_bind(session, portal)
        return
    known = _known(session, statement.text, statement.types)
    if known is not None and has_its_types(statement, known.assessment.analysis):
        session.plans.bound(portal, known.assessment.analysis)
        _send_bind(session, portal)
        return
    assessment = await _assess_bound(session, portal)
    if assessment is None:
        return
    request = request_of(session, portal)
    session.plans.bound(portal, assessment.analysis)
    if isinstance(assessment.decision, RequireApproval):
        await _hold_bind(session, portal, request)
    else:
        _send_bind(session, portal)


async def _assess_bound(session: ClientSession, portal: Portal) -> Assessment | None:
    """`_assess`, of the statement with the types of parameters that it was parsed with.

    Those the server was to infer stay what it found then, whatever names mean by now.
    """
    statement = portal.statement
    assessment = await _assess(session, request_of(session, portal))
    if assessment is None or _is_as_parsed(session, statement, assessment.analysis):
        return assessment
    if statement.analysis is not None:
        statement.types = statement.analysis.parameters
        assessment = await _assess(session, request_of(session, portal))
    if assessment is not None and not _is_as_parsed(session, statement, assessment.analysis):
        session.refuse(_means_otherwise(_PARSED_BEFORE, "Parse it again."))
        return None
    return assessment


def has_its_types(statement: Prepared, now: Analysis) -> bool:
    """Whether `now` reads the statement with the types of parameters that the server keeps for it."""
    return statement.analysis is not None and statement.analysis.parameters == now.parameters


def _is_as_parsed(session: ClientSession, statement: Prepared, now: Analysis) -> bool:
    return has_its_types(statement, now) or session.meaning.is_open()


async def _hold_bind(session: ClientSession, portal: Portal, request: StatementRequest) -> None:
    """Have it approved before it is planned; nobody is asked behind a failure, where the server will skip it."""

    async def keep(permit: ExecutionPermit) -> None:
        portal.permit = permit
        session.plans.bound(portal, permit.analysis)
        _send_bind(session, portal)

    await session.drained()
    if session.relay.skipping or session.relay.broken:
        return
    transport = StatementTransport(session, execute=keep)
    await run_statement(session.services, session.context, request, transport)


def _send_bind(session: ClientSession, portal: Portal) -> None:
    if portal.statement.text:
        session.plans.renew(first_word(portal.statement.text))
    session.ask(bind_expectation(session, portal), client.encode_bind(portal.bind))


def bind_expectation(session: ClientSession, portal: Portal) -> Expectation:
    """Propose the portal and say what its Bind will be answered with."""
    session.portals.propose(portal.name, portal)

    def undone() -> None:
        session.portals.withdraw(portal.name, portal)
        portal.retire()

    done = partial(confirm_portal, session, portal)
    return Complete(server.BIND_COMPLETE, done=done, undone=undone, text=portal.statement.text)


def confirm_portal(session: ClientSession, portal: Portal) -> None:
    """The server has it; an unnamed one takes the place of the one before."""
    replaced = session.portals.standing(portal.name)
    session.portals.commit(portal.name, portal)
    if replaced is not None and replaced is not portal:
        replaced.retire()


async def execute(session: ClientSession, message: Execute) -> None:
    await _certain(session, session.portals, message.portal)
    await session.settle()
    portal = session.portals.get(message.portal)
    if portal is None:
        session.refuse(missing("portal", message.portal, sqlstate="34000"))
        return
    if not portal.statement.text:
        session.ask(Complete(server.EMPTY_QUERY), client.encode_execute(message))
        return
    still = portal.permit is None and portal.names == session.plans.names
    known = _known(session, portal.statement.text, portal.statement.types) if still else None
    if known is not None and has_its_types(portal.statement, known.assessment.analysis):
        permit = authorise_known(session.services, session.context, request_of(session, portal))
        if permit is not None:
            _send_result(session, portal, message, permit)
            return
    await _prepare_to_decide(session, portal.statement.text)
    if portal.permit is not None and not await _still_permitted(session, portal, portal.permit):
        portal.retire()  # its answer may be clear, or allowed, no longer: decide again
    permit, portal.permit = portal.permit, None
    if permit is not None:
        await _send_execute(session, portal, message, permit)
        return
    transport = StatementTransport(session, execute=partial(_send_execute, session, portal, message))
    await run_statement(session.services, session.context, request_of(session, portal), transport)


async def _still_permitted(session: ClientSession, portal: Portal, permit: ExecutionPermit) -> bool:
    """Whether a permit that was kept since the Bind would be given now."""
    if not _keeps_its_settings(session, portal):
        return False
    return not is_outlived(session.services, permit) and await still_approved(session.services, permit.claim)


async def _send_execute(session: ClientSession, portal: Portal, message: Execute, permit: ExecutionPermit) -> None:
    same = _is_as_parsed(session, portal.statement, permit.analysis)
    if not same or not session.plans.means_the_same(portal, permit.analysis):
        permit.complete(Outcome(status="failed", error="0A000"))
        session.refuse(_means_otherwise(_BOUND_BEFORE, "Bind it again."))
        return
    if await refused_two_phase(session, permit):
        return
    copying = first_word(permit.statement) == "copy"
    columns = await copied_columns(session, permit) if copying else ()
    if columns is None:
        return
    execution = _send_result(session, portal, message, permit, copying=copying, copy_columns=columns)
    if copying:
        await converse(session, execution, simple=False)


def _send_result(
    session: ClientSession,
    portal: Portal,
    message: Execute,
    permit: ExecutionPermit,
    *,
    copying: bool = False,
    copy_columns: tuple[server.Field, ...] = (),
) -> Execution:
    if not _described(session, portal) and not copying:
        description = Description(portal.shape.own, hidden=True)
        session.ask(description, client.encode_describe(Target("P", portal.name)))
    execution: Execution = session.start(permit, shape=portal.shape, copy_columns=copy_columns)
    session.ask(Result(execution), client.encode_execute(message))
    return execution


def _described(session: ClientSession, portal: Portal) -> bool:
    """Whether the portal's columns are known, or asked for, by the time its rows come.

    A statement's own description only counts when the server holds it to that ("cached plan must not change result
    type"): FETCH or EXECUTE return whatever their name stands for by then. What was asked for before a Sync may have
    been skipped.
    """
    shape = portal.statement.shape
    asked = shape.requested and shape.request == session.requests
    return portal.shape.own.requested or (portal.statement.fixed and (asked or shape.fields is not None))


async def describe(session: ClientSession, target: Target) -> None:
    await _certain(session, session.statements if target.kind == "S" else session.portals, target.name)
    if target.kind == "S":
        statement = session.statements.get(target.name)
        if statement is None:
            session.refuse(missing("prepared statement", target.name, sqlstate="26000"))
            return
        statement.shape.request = session.requests
        session.ask(Description(statement.shape), client.encode_describe(target))
        return
    portal = session.portals.get(target.name)
    if portal is None and target.name not in session.context.cursors:
        await session.drained()  # perhaps a DECLARE is still under way
    if portal is None and target.name not in session.context.cursors:
        session.refuse(missing("portal", target.name, sqlstate="34000"))
        return
    # A cursor of DECLARE may be described (psycopg does); its rows come by FETCH, which is decided by itself.
    session.ask(Description(portal.shape.own if portal else Shape()), client.encode_describe(target))


def close(session: ClientSession, target: Target) -> None:
    """Closing a name that does not exist is not an error (message flow, "Extended Query")."""
    if _is_cut(session, target.name):
        return

    def done() -> None:
        if target.kind == "S":
            session.statements.commit(target.name, None)
            return
        portal = session.portals.standing(target.name)
        session.portals.commit(target.name, None)
        if portal is not None:
            portal.retire()

    if target.kind == "S":
        session.statements.propose(target.name, None)
        undone = partial(session.statements.withdraw, target.name, None)
    else:
        session.portals.propose(target.name, None)
        undone = partial(session.portals.withdraw, target.name, None)
    session.ask(Complete(server.CLOSE_COMPLETE, done=done, undone=undone), client.encode_close(target))


def request_of(session: ClientSession, portal: Portal) -> StatementRequest:
    """A fresh request for the portal: every execution has its own id in the record."""
    return StatementRequest(
        text=portal.statement.text,
        parameters=portal.bind.parameters,
        parameter_types=portal.statement.types,
        parameter_formats=portal.bind.parameter_formats,
        read_otherwise=not _keeps_its_settings(session, portal),
    )


def _keeps_its_settings(session: ClientSession, portal: Portal) -> bool:
    """Whether its text and its parameters were read under the settings the session has now."""
    return portal.settings == portal.statement.settings == session.context.settings


async def _certain(session: ClientSession, names: Names[Any], name: str) -> None:
    """Know what the name stands for, where what it was proposed for may fail without skipping what comes now."""
    if name in names.doubtful:
        await session.drained()


def _is_cut(session: ClientSession, name: str) -> bool:
    """Refuse a name the server would cut: it keeps 63 bytes (dynahash.c), and so one statement for names we tell apart.

    Where a name only has to be found, none so long is.
    """
    if len(name.encode()) <= MAX_NAME_BYTES:
        return False
    session.refuse(
        server.error(
            sqlstate="42622",
            message=f"a name of more than {MAX_NAME_BYTES} bytes",
            hint="Give statements and portals shorter names.",
        )
    )
    return True


def _means_otherwise(message: str, hint: str) -> bytes:
    return server.error(sqlstate="0A000", message=message, hint=hint)


def missing(kind: str, name: str, *, sqlstate: str) -> bytes:
    quoted = f"unnamed {kind}" if name == "" else f'{kind} "{name}"'
    return server.error(sqlstate=sqlstate, message=f"{quoted} does not exist")


async def _prepare_to_decide(session: ClientSession, text: str) -> None:
    if first_word(text) not in SELF_CONTAINED:
        await session.drained()  # what its names stand for is known only when everything before has been answered
    await session.settle()
    await session.two_phase.before(text)


async def _assess(session: ClientSession, request: StatementRequest) -> Assessment | None:
    """Return what would be decided, or None when that is a denial, which is then recorded and sent."""
    await _prepare_to_decide(session, request.text)
    try:
        assessment = await assess(session.services, session.context, request)
        if isinstance(assessment.decision, Deny):
            raise denied_by(assessment.decision, assessment)
        remember(session.services, session.context, request, assessment)
    except Denied as denied:
        transport = StatementTransport(session, execute=_never)
        await refuse(session.services, session.context, request, transport, denied)
        return None
    return assessment


async def _never(_: ExecutionPermit) -> None:
    raise AssertionError("a refused statement has no permit")
