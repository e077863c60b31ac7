"""Connections on which no decision and no mask depends on what a statement says.

Where nothing is protected, no policy speaks and the principal holds every right, every reading ends in the same Allow.
Statements there are named by their kind and recorded, but not read a second time: the second reading would cost a round
trip, could wait for the locks of the session's own transaction, and would refuse names only that transaction can see.
Anywhere else what cannot be read is refused.
"""

from __future__ import annotations

from functools import partial

from analysis.lexer import LexError
from analysis.statement import Analysis, Statement
from analysis.utility import read_utility
from approvals.domain.decide import EVERY_RIGHT, covers
from approvals.domain.request import Principal
from gateway.domain.long_texts import read_beside
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.session.context import SessionContext
from gateway.session.services import Analyst
from masking.domain.rules import rules_for


async def read(
    analyst: Analyst,
    session: SessionContext,
    statement: Statement,
    *,
    snapshot: Snapshot,
    connection: ConnectionSpec,
) -> Analysis:
    """Return what the statement does, as far as anything depends on it. Raises UpstreamRejected."""
    if is_open(snapshot, connection, session.principal):
        return await read_beside(session.principal.subject, len(statement.text), partial(unread, statement))
    return await analyst.analyse(session, statement)


def is_open(snapshot: Snapshot, connection: ConnectionSpec, principal: Principal) -> bool:
    """Whether no PHI, masking rule or policy is here and the principal may do everything."""
    if connection.phi or connection.kind != "postgres" or rules_for(snapshot.masking_rules, connection.name):
        return False
    if any(covers(policy.connections, connection.name) for policy in snapshot.policies):
        return False
    held = {
        operation
        for rule in snapshot.access_rules
        if rule.groups & principal.groups and rule.covers(connection.name)
        for operation in rule.operations
    }
    return held >= EVERY_RIGHT


def unread(statement: Statement) -> Analysis:
    """The kind of a statement and nothing else: it needs every right, and nothing about it is complete."""
    kind, name = "UNKNOWN", ""
    try:
        utility = read_utility(statement.text)
        kind, name = utility.kind, utility.name
    except LexError:
        pass  # the database will say what it thinks of it
    return Analysis(
        statement=statement,
        kind=kind,
        fingerprint="",
        complete=False,
        problems=("not read: nothing depends on it on this connection",),
        operations=EVERY_RIGHT,
        name=name,
    )
