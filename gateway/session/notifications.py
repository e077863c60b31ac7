"""What a LISTEN consumer sees of a notification on a connection that holds PHI.

A payload is free text of whoever sent it: a trigger, another program, an agent. It counts as the value of the column
`notifications.<channel>.payload`: a masking rule over that column says what is shown (`scan` looks for identifiers),
and without one, or without the right `listen`, nothing of it is. Rules and rights are those of the moment it arrives.
"""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase

from analysis.statement import Analysis, ColumnRef, Operation, Origin, Output, Statement, Transform
from gateway.domain.snapshot import Snapshot, StaleSnapshot
from gateway.session.context import SessionContext
from gateway.session.services import Snapshots
from masking.domain.field import ResultColumn
from masking.domain.plan import build_plan
from masking.domain.rules import MaskingRule, rules_for

logger = logging.getLogger(__name__)

SCHEMA, COLUMN = "notifications", "payload"


def payload_shown(snapshots: Snapshots, session: SessionContext, channel: str, payload: str) -> str:
    """Return what of `payload` the session's principal may see: "" for nothing. Never raises."""
    if not payload:
        return ""
    try:
        snapshot = snapshots.current()
        return _masked(snapshot, session, channel, payload) if _may_listen(snapshot, session) else ""
    except StaleSnapshot:
        return ""
    except Exception as error:  # fail closed: what cannot be masked is not shown
        logger.error("notification withheld: session=%s error=%s", session.session_id, type(error).__name__)
        return ""


def _may_listen(snapshot: Snapshot, session: SessionContext) -> bool:
    connection = snapshot.connections.get(session.connection.name)
    return (
        connection is not None
        and connection.enabled
        and any(
            Operation.LISTEN in rule.operations
            and rule.groups & session.principal.groups
            and rule.covers(connection.name)
            for rule in snapshot.access_rules
        )
    )


def _names(rule: MaskingRule, column: ColumnRef) -> bool:
    """Whether the rule means this very channel. Rules that hide ignore case on purpose; here one uncovers."""
    return any(fnmatchcase(str(column), glob) for glob in rule.columns)


def _masked(snapshot: Snapshot, session: SessionContext, channel: str, payload: str) -> str:
    name, column = session.connection.name, ColumnRef(SCHEMA, channel, COLUMN)
    rule = rules_for(snapshot.masking_rules, name).rule_for(column)
    if rule is None or not _names(rule, column):
        return ""
    analysis = Analysis(
        statement=Statement(""),
        kind="NOTIFICATION",
        fingerprint="",
        complete=True,
        outputs=(Output(COLUMN, (Origin(column, Transform.IDENTITY),)),),
    )
    plan = build_plan(
        analysis=analysis,
        columns=[ResultColumn(COLUMN)],
        rules=snapshot.masking_rules,
        connection=name,
        groups=session.principal.groups,
        phi=True,
        scan_text=True,
    )
    mask = plan.fields[0].mask
    shown = payload.encode() if mask is None else mask(payload.encode())
    return (shown or b"").decode("utf-8", "replace")
