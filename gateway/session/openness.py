"""Connections on which no decision and no mask depends on what a statement says.

Where nothing is protected and the principal holds every right, a statement the second reading refuses may still be
right: it may name a relation of the session's own open transaction, or be refused by the database in other words. It
then goes through unread, and the database answers for itself. Anywhere else what cannot be read is refused.
"""

from __future__ import annotations

from analysis.statement import Analysis, Statement
from approvals.domain.decide import EVERY_RIGHT, covers
from approvals.domain.request import Principal
from gateway.domain.snapshot import ConnectionSpec, Snapshot
from gateway.session.context import SessionContext
from gateway.session.services import Analyst, UpstreamRejected
from masking.domain.rules import rules_for


async def read(
    analyst: Analyst,
    session: SessionContext,
    statement: Statement,
    *,
    snapshot: Snapshot,
    connection: ConnectionSpec,
) -> Analysis:
    """Return what the analyst says. Raises UpstreamRejected where a refused reading must refuse the statement."""
    if session.uncommitted_definitions and is_open(snapshot, connection, session.principal):
        # The second reading could only wait for the transaction's locks, to be distrusted afterwards.
        return unread(statement, "the open transaction changed definitions, which the second reading cannot see")
    try:
        return await analyst.analyse(session, statement)
    except UpstreamRejected:
        if is_open(snapshot, connection, session.principal):
            return unread(statement, "the database refused to read it apart from its session")
        raise


def is_open(snapshot: Snapshot, connection: ConnectionSpec, principal: Principal) -> bool:
    """Whether no PHI, masking rule or policy is here and the principal may do everything."""
    if connection.phi or rules_for(snapshot.masking_rules, connection.name):
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


def unread(statement: Statement, problem: str) -> Analysis:
    """What is known of a statement nobody read: that it needs every right, and why."""
    return Analysis(
        statement=statement,
        kind="UNREAD",
        fingerprint="",
        complete=False,
        problems=(problem,),
        operations=EVERY_RIGHT,
    )
