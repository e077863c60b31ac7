"""Both readings of one statement: sqlglot's here, while the database makes its own on a side connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psycopg

from analysis.agree import agree
from analysis.alike import adopted, alike, serves_others
from analysis.fingerprint import Shape
from analysis.lexer import LexError, TokenKind, tokenize
from analysis.making import quickly_made, remade
from analysis.parse import ClientReading, read_client
from analysis.statement import Analysis, Operation, Statement
from analysis.text import Probe, TextReading
from analysis.utility import Utility
from analysis.witness import Witness
from gateway.domain.long_texts import read_long
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_own import PostgresOwnSide
from gateway.upstreams.postgres_side import PostgresSide
from gateway.upstreams.postgres_witness import LOCK_NOT_AVAILABLE, NoWitness, Question

logger = logging.getLogger(__name__)

MAX_PARAMETERS = 2000
SHORT_TOKENS = 500  # some milliseconds: not worth a thread
# A table that is locked whole (ALTER, TRUNCATE) cannot be read about either: how long a statement waits here for it.
LOCK_PATIENCE_S = 10.0
LOCK_RETRY_S = 0.4
LOCK_GLANCE = "100ms"

Side = PostgresSide | PostgresOwnSide
# Where there is no second reading there is nothing to hold a first one against, and it is the dearest of all.
_UNASKED = ClientReading(understood=True)


async def compared(side: Side, session: SessionContext, statement: Statement, read: TextReading) -> Analysis:
    """Compare them. A long statement is read and compared in a thread, when it is its principal's turn."""
    utility, shape, probe = read.utility, read.shape, read.probe
    if probe is None:
        none = read_client("SELECT 1", [])
        return agree(statement=statement, utility=utility, client=none, witness=None, shape=shape)
    problem = ""
    client: ClientReading | None = None
    witness: Witness | None = None
    short = len(probe.tokens) <= SHORT_TOKENS

    def read_first() -> None:
        nonlocal client
        if client is None and short:
            client = read_client(probe.text, probe.tokens)

    try:
        if probe.too_much:
            raise NoWitness("longer or deeper than can be analysed in time")
        # The database reads while we do.
        witness = await _witness(side, session, statement, utility, probe, meanwhile=read_first)
    except (NoWitness, LexError) as error:
        problem = str(error)

    def agreed() -> Analysis:
        first = client or (_UNASKED if probe.too_much else read_client(probe.text, probe.tokens))
        readings = Readings(statement, utility, first, witness, shape)
        return _agreed_before(side, readings) if short else readings.agreed()

    if short:
        analysis = agreed()
    else:  # seconds of work must not hold up every other session
        analysis = await read_long(session.principal.subject, agreed)
    return replace(analysis, problems=(*analysis.problems, problem)) if problem else analysis


@quickly_made
@dataclass(frozen=True, slots=True)
class Readings:
    """All that one statement was read as."""

    statement: Statement
    utility: Utility
    client: ClientReading
    witness: Witness | None
    shape: Shape

    def agreed(self) -> Analysis:
        return agree(
            statement=self.statement, utility=self.utility, client=self.client, witness=self.witness, shape=self.shape
        )


def _agreed_before(side: Side, readings: Readings) -> Analysis:
    """What `agree` says, which it may have said of another statement that was read alike under this very catalogue."""
    witness = readings.witness
    if witness is None or not isinstance(side, PostgresSide) or witness.catalogue is not side.catalogue:
        return readings.agreed()
    of = alike(utility=readings.utility, client=readings.client, witness=witness)
    if of is None:
        return readings.agreed()
    kept = side.alike.find(of.key)
    if kept is not None:
        return adopted(kept, of, statement=readings.statement, shape=readings.shape)
    found = readings.agreed()
    if serves_others(found, of):
        side.alike.keep(of.key, remade(found, statement=Statement("")))
    return found


async def _witness(
    side: Side,
    session: SessionContext,
    statement: Statement,
    utility: Utility,
    probe: Probe,
    *,
    meanwhile: Callable[[], None],
) -> Witness:
    if utility.parameter_types and not _is_type_list(utility.parameter_types):
        raise NoWitness("parameter types of a form that is not known")
    count = probe.parameters
    if count > MAX_PARAMETERS:
        raise NoWitness(f"more than {MAX_PARAMETERS} parameters")
    # Those of PREPARE are its own; in EXPLAIN, DECLARE … they are the client's, as in the query by itself.
    given = () if utility.keeps_parameters else statement.parameter_types
    question = Question(
        text=probe.text,
        role=session.role,
        asker=session.principal.subject,
        search_path=session.search_path,
        parameter_count=max(count, len(given)),
        parameter_types=given,
        offset=utility.probe_offset,
        declared_types=utility.parameter_types,
        makes=utility.made is not None or utility.defines is not None,
    )
    try:
        return await _read_once_unlocked(side, question, meanwhile)
    except UpstreamRejected:
        # Definitions are refused for want of a right, not for what the database thinks of them.
        if Operation.DDL in utility.operations:
            raise NoWitness("the database refused the query it is defined by") from None
        raise
    except psycopg.Error as error:
        # Fail closed: without the database's answer the analysis is incomplete.
        logger.warning("second reading failed: session=%s error=%s", session.session_id, type(error).__name__)
        side.forget()
        raise NoWitness("the database could not be asked") from None


async def _read_once_unlocked(side: Side, question: Question, meanwhile: Callable[[], None]) -> Witness:
    """The reading, as soon as nobody locks what it names. Raises UpstreamRejected 55P03 after LOCK_PATIENCE_S.

    It is asked again and again, so that whoever waits for a lock keeps no side connection from the others.
    """
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return await side.read(question, meanwhile=meanwhile)
        except UpstreamRejected as rejected:
            if rejected.sqlstate != LOCK_NOT_AVAILABLE or time.monotonic() > until:
                raise
        await asyncio.sleep(LOCK_RETRY_S)
        question = replace(question, lock_timeout=LOCK_GLANCE)


def _is_type_list(text: str) -> bool:
    """Names, modifiers and array bounds only: the text goes into our own PREPARE."""
    depth = 0
    for token in tokenize(text):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0 or not (
            token.kind in (TokenKind.WORD, TokenKind.QUOTED, TokenKind.NUMBER) or token.text in tuple("(),.[]")
        ):
            return False
    return depth == 0
