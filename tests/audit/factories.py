"""Entries as the gateway writes them."""

from __future__ import annotations

from audit.domain.entry import Entry, Json

WHO: dict[str, Json] = {
    "subject": "demo-agent",
    "actor": None,
    "owner": "admin",
    "connection": "clinic",
    "protocol": "postgres",
}


def opened(session: str = "s1") -> Entry:
    return Entry(kind="session.opened", session_id=session, body={**WHO, "issuer": "https://idp", "groups": ["agents"]})


def authorised(statement: str, session: str = "s1", text: str = "select ssn from patients") -> Entry:
    body: dict[str, Json] = {
        **WHO,
        "kind": "select",
        "complete": True,
        "operations": ["read"],
        "tables_read": ["public.patients"],
        "tables_written": [],
        "columns_read": ["public.patients.ssn"],
        "classes": ["ssn"],
        "decision": "allow",
        "rule": "agents-read",
        "snapshot": 7,
        "risk": 3,
    }
    return Entry(
        kind="statement.authorised",
        session_id=session,
        statement_id=statement,
        body=body,
        sensitive={"statement": text, "parameters": ["31", None]},
    )


def completed(statement: str, session: str = "s1", recording: str = "") -> Entry:
    body: dict[str, Json] = {
        **WHO,
        "kind": "select",
        "status": "completed",
        "rows": 2,
        "bytes": 64,
        "recording": recording,
        "masked": [{"column": "ssn", "rule": "ssn", "technique": "redact", "count": 2}],
    }
    return Entry(kind="statement.completed", session_id=session, statement_id=statement, body=body)


def denied(statement: str, session: str = "s1") -> Entry:
    return Entry(
        kind="statement.denied",
        session_id=session,
        statement_id=statement,
        body={**WHO, "code": "policy-denied", "rule": "no-ddl", "sqlstate": "42501"},
        sensitive={"statement": "drop table patients"},
    )
