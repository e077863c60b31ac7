"""Both readings of one statement: sqlglot's here, while the database makes its own on a side connection."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import psycopg

from analysis.agree import agree
from analysis.fingerprint import Shape
from analysis.lexer import LexError, Token, TokenKind, tokenize
from analysis.parse import MAX_DEPTH, ClientReading, depth_of, read_client
from analysis.statement import Analysis, Operation, Statement
from analysis.utility import Utility
from analysis.witness import Witness
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams.postgres_own import PostgresOwnSide
from gateway.upstreams.postgres_side import PostgresSide
from gateway.upstreams.postgres_witness import LOCK_NOT_AVAILABLE, NoWitness, Question

logger = logging.getLogger(__name__)

MAX_PARAMETERS = 2000
# What one statement may cost the process it shares with every other session.
MAX_TOKENS = 50_000
MAX_PARTS = 200
SHORT_TOKENS = 500  # some milliseconds: not worth a thread
_PARTS = frozenset({"SELECT", "VALUES", "TABLE", "JOIN"})
# A table that is locked whole (ALTER, TRUNCATE) cannot be read about either: how long a statement waits here for it.
LOCK_PATIENCE_S = 10.0
LOCK_RETRY_S = 0.4
LOCK_GLANCE = "100ms"

Side = PostgresSide | PostgresOwnSide


class Readings:
    """Those of one gateway process. Long statements take turns: they are compared in a thread, one at a time."""

    def __init__(self) -> None:
        self._long = asyncio.Semaphore(1)

    async def compared(
        self, side: Side, session: SessionContext, statement: Statement, utility: Utility, shape: Shape
    ) -> Analysis:
        if utility.probe is None:
            none = read_client("SELECT 1", [])
            return agree(statement=statement, utility=utility, client=none, witness=None, shape=shape)
        tokens, problem = tokenize(utility.probe), ""
        client: ClientReading | None = None
        witness: Witness | None = None
        probe, short = utility.probe, len(tokens) <= SHORT_TOKENS
        try:
            _must_be_readable_in_time(tokens)
            asked = asyncio.create_task(_witness(side, session, statement, utility, tokens))
            try:
                if short:
                    await asyncio.sleep(0)  # the database reads while we do
                    client = read_client(probe, tokens)
                witness = await asked
            finally:
                asked.cancel()
        except (NoWitness, LexError) as error:
            problem = str(error)

        def agreed() -> Analysis:
            first = client or read_client(probe, tokens)
            return agree(statement=statement, utility=utility, client=first, witness=witness, shape=shape)

        if short:
            analysis = agreed()
        else:  # seconds of work must not hold up every other session
            async with self._long:
                analysis = await asyncio.to_thread(agreed)
        return replace(analysis, problems=(*analysis.problems, problem)) if problem else analysis


async def _witness(
    side: Side, session: SessionContext, statement: Statement, utility: Utility, tokens: list[Token]
) -> Witness:
    assert utility.probe is not None
    if utility.parameter_types and not _is_type_list(utility.parameter_types):
        raise NoWitness("parameter types of a form that is not known")
    count = max((int(token.text[1:]) for token in tokens if token.kind is TokenKind.PARAM), default=0)
    if count > MAX_PARAMETERS:
        raise NoWitness(f"more than {MAX_PARAMETERS} parameters")
    question = Question(
        text=utility.probe,
        role=session.role,
        asker=session.principal.subject,
        search_path=session.search_path,
        parameter_count=max(count, len(statement.parameter_types) if utility.is_query else 0),
        parameter_types=statement.parameter_types if utility.is_query else (),
        offset=utility.probe_offset,
        declared_types=utility.parameter_types,
        makes=utility.made is not None or utility.defines is not None,
    )
    try:
        return await _read_once_unlocked(side, question)
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


async def _read_once_unlocked(side: Side, question: Question) -> Witness:
    """The reading, as soon as nobody locks what it names. Raises UpstreamRejected 55P03 after LOCK_PATIENCE_S.

    It is asked again and again, so that whoever waits for a lock keeps no side connection from the others.
    """
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return await side.read(question)
        except UpstreamRejected as rejected:
            if rejected.sqlstate != LOCK_NOT_AVAILABLE or time.monotonic() > until:
                raise
        await asyncio.sleep(LOCK_RETRY_S)
        question = replace(question, lock_timeout=LOCK_GLANCE)


def _must_be_readable_in_time(tokens: list[Token]) -> None:
    """Lineage takes time by the square of a statement's parts: past these bounds there is no second reading."""
    parts = sum(token.word in _PARTS for token in tokens)
    if len(tokens) > MAX_TOKENS or parts > MAX_PARTS or depth_of(tokens) > MAX_DEPTH:
        raise NoWitness("longer or deeper than can be analysed in time")


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
