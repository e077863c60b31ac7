"""One entry of every kind the log can hold, as events, with canaries wherever a client could put a value."""

from __future__ import annotations

import json
from typing import Any

from audit.domain.kinds import KINDS
from audit.sinks.event import Event, read_event

CANARY = "412-55-6789"
CANARY_WORD = "Zyxwvut Canarystone"
LOG = "hoopweb.log/00112233445566aa"
WHO = {"subject": "demo-agent", "actor": "copilot", "owner": "admin", "connection": "clinic", "protocol": "postgres"}
STATEMENT = {
    "kind": "select", "fingerprint": "sha256:ab12", "complete": True, "operations": ["read"],
    "tables_read": ["public.patients"], "tables_written": [], "columns_read": ["public.patients.ssn"], "risk": 3,
    "decision": "allow", "rule": "agents-read", "snapshot": 7, "classes": ["ssn"], "durability": "database",
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "session.opened": {**WHO, "issuer": "https://idp", "groups": ["ai-agents"], "auth_method": "oidc",
                       "client_address": "10.1.2.3", "client_tls": "TLSv1.3", "application": CANARY},
    "authentication.failed": {"claimed_subject": CANARY, "client_address": "10.9.9.9", "protocol": "postgres",
                              "reason": "token-expired"},
    "statement.authorised": {**WHO, **STATEMENT},
    "statement.held": {**WHO, **STATEMENT, "decision": "require_approval", "review": "r-1"},
    "statement.denied": {**WHO, "code": "policy-denied", "rule": "no-ddl", "sqlstate": "42501",
                         "reason": CANARY, "facts": [CANARY], "permitted_alternative": CANARY_WORD},
    "statement.completed": {**WHO, "kind": "select", "status": "completed", "rows": 2, "bytes": 64, "recording": "",
                            "command_tag": "SELECT 2",
                            "masked": [{"column": CANARY, "rule": "ssn", "technique": "redact", "count": 2}]},
    "config.changed": {"subject": "admin", "version": 8, "changes": [
        {"section": "masking", "name": "ssn", "before": {"note": CANARY}, "after": {"note": CANARY_WORD}}]},
    "evidence.searched": {"subject": "auditor", "filters": {"text": CANARY_WORD}},
    "grant.claimed": {**WHO, "review": "r-1", "grant": "g-1"},
    "gateway.started": {"subject": "gateway", "host": "h1", "listeners": {"postgres": "127.0.0.1:6432"}},
}  # fmt: skip


def event(kind: str, body: dict[str, Any] | None = None, *, seq: int = 5) -> Event:
    entry = {
        "v": 1, "seq": seq, "prev": "00" * 32, "at_us": 1_790_000_000_123_456, "kind": kind, "gateway": "gw-1",
        "session": "s-1" if kind.startswith(("session", "statement")) else "", "commitment": "",
        "statement": "st-1" if kind.startswith("statement") else "",
        "body": BODIES.get(kind, {**WHO}) if body is None else body,
    }  # fmt: skip
    return read_event(log=LOG, seq=seq, leaf=b"\x01" * 32, canonical=json.dumps(entry).encode())


def every_event() -> list[Event]:
    return [event(kind, seq=place) for place, kind in enumerate(KINDS, 1)]
