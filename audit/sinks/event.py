"""What leaves of an entry: named fields of known shape, nothing else. Pure.

A log entry holds no SQL text and no row, but some of its fields are words a client chose: the application's name, a
claimed user, an output column's alias. Whoever chooses a word can put a value into it, so those fields stay here, and a
sink's event is built from an allow-list. What a receiver wants to know beyond it is found in the log by `seq`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

VENDOR = PRODUCT = "hoopweb"
PRODUCT_VERSION = "0.1.0"


class Severity(IntEnum):
    """As OCSF counts: `severity_id`."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is the same for every delivery of an entry: receivers drop what they have already."""

    id: str
    log: str
    seq: int
    leaf: str
    kind: str
    at_us: int
    gateway: str
    session: str
    statement: str
    body: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.at_us / 1e6, UTC)

    @property
    def at_iso(self) -> str:
        return self.at.isoformat(timespec="microseconds").replace("+00:00", "Z")

    @property
    def severity(self) -> Severity:
        return severity_of(self.kind, self.body)

    def text(self, name: str, default: str = "") -> str:
        value = self.body.get(name)
        return value if isinstance(value, str) and value else default

    def number(self, name: str) -> int:
        value = self.body.get(name)
        return value if isinstance(value, int) else 0

    def names(self, name: str) -> list[str]:
        value = self.body.get(name)
        return list(value) if isinstance(value, list) else []


def read_event(*, log: str, seq: int, leaf: bytes, canonical: bytes) -> Event:
    """Raises ValueError when the entry is not one (a damaged log is not delivered)."""
    try:
        entry = json.loads(canonical)
        return Event(
            id=f"{log.rpartition('/')[2]}-{seq}",
            log=log,
            seq=seq,
            leaf=leaf.hex(),
            kind=str(entry["kind"]),
            at_us=int(entry["at_us"]),
            gateway=_id(entry.get("gateway")) or "",
            session=_id(entry.get("session")) or "",
            statement=_id(entry.get("statement")) or "",
            body=forwarded(entry["body"], statement=str(entry["kind"]).startswith("statement.")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"entry {seq} is not an entry of the log") from error


def forwarded(body: Mapping[str, Any], *, statement: bool = False) -> dict[str, Any]:
    """The fields that may leave, each in its shape; what has another shape is left out.

    Of a statement no reason leaves: why one was refused may quote what was in it.
    """
    found = {name: shape(body[name]) for name, shape in _SHAPES.items() if name in body}
    if statement:
        found.pop("reason", None)
    return {name: value for name, value in found.items() if value is not None}


def severity_of(kind: str, body: Mapping[str, Any]) -> Severity:
    if kind == "statement.completed" and body.get("status") not in (None, "completed"):
        return Severity.LOW
    return SEVERITIES.get(kind, Severity.INFORMATIONAL)


SEVERITIES = {
    "log.damage_found": Severity.CRITICAL,
    "journal.damaged": Severity.CRITICAL,
    "journal.missing": Severity.CRITICAL,
    "log.restored": Severity.HIGH,
    "statement.denied": Severity.MEDIUM,
    "authentication.failed": Severity.MEDIUM,
    "recording.lost": Severity.MEDIUM,
    "session.kill_requested": Severity.MEDIUM,
    "emergency.opened": Severity.HIGH,
    "emergency.used": Severity.HIGH,
    "emergency.overdue": Severity.HIGH,
    "emergency.ended": Severity.MEDIUM,
    "emergency.reviewed": Severity.LOW,
    "statement.held": Severity.LOW,
    "config.changed": Severity.LOW,
    "key.rotated": Severity.LOW,
    "log.key_rotated": Severity.LOW,
    "sink.failing": Severity.MEDIUM,
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ID = re.compile(r"\A[A-Za-z0-9:._+/=-]{1,128}\Z")
_OBJECT = re.compile(r"\A[^\x00-\x1f\x7f]{1,256}\Z")
_DIGITS = re.compile(r"\d")
# A name somebody claimed without proving it may be a mistyped password, or a value: only a plain name leaves.
_CLAIMED = re.compile(r"\A[A-Za-z][A-Za-z._@-]{0,60}\d{0,3}\Z")
WITHHELD = "(withheld)"


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and _ID.match(value) else None


def _text(value: Any) -> str | None:
    return _CONTROL.sub(" ", value)[:256] if isinstance(value, str) else None


def _claimed(value: Any) -> str | None:
    return value if isinstance(value, str) and _CLAIMED.match(value) else None


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _objects(value: Any) -> list[str] | None:
    """Names of tables and columns. One that is mostly digits could be a value somebody made a name of."""
    if not isinstance(value, list):
        return None
    return [_object(item) for item in value[:200]]


def _object(value: Any) -> str:
    if not isinstance(value, str) or not _OBJECT.match(value) or len(_DIGITS.findall(value)) > 8:
        return WITHHELD
    return value


def _texts(value: Any) -> list[str] | None:
    return [text for item in value[:50] if (text := _text(item))] if isinstance(value, list) else None


def _masked(value: Any) -> list[dict[str, Any]] | None:
    """Rule, technique and count. Not the column: that is an output's name, which the statement chose."""
    if not isinstance(value, list):
        return None
    rows = [row for row in value[:200] if isinstance(row, dict)]
    return [{"rule": _text(r.get("rule")), "technique": _text(r.get("technique")), "count": r["count"]}
            for r in rows if isinstance(r.get("count"), int)]  # fmt: skip


def _changes(value: Any) -> list[dict[str, Any]] | None:
    """What was changed, not what it says before and after."""
    if not isinstance(value, list):
        return None
    rows = [row for row in value[:200] if isinstance(row, dict)]
    return [{"section": _text(r.get("section")), "name": _text(r.get("name")), "action": _action(r)} for r in rows]


def _action(change: Mapping[str, Any]) -> str:
    if change.get("before") is None:
        return "create"
    return "delete" if change.get("after") is None else "update"


_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("subject", "actor", "owner", "connection", "protocol", "issuer", "auth_method", "client_address",
         "client_tls", "upstream_tls", "reason", "kind", "decision", "rule", "code", "sqlstate", "status", "error",
         "durability", "role", "reviewer", "requester", "account", "agent", "purpose", "host", "check", "format",
         "what", "class", "sink", "anchor", "report", "masks", "roster", "finding"),
        _text,
    ),
    **dict.fromkeys(
        ("review", "grant", "emergency", "token_id", "fingerprint", "journal", "head", "recording", "ticket"), _id
    ),
    **dict.fromkeys(
        ("complete", "modified", "rows", "bytes", "risk", "snapshot", "version", "size", "count", "entries",
         "with_text", "serving"),
        _number,
    ),
    **dict.fromkeys(("tables_read", "tables_written", "columns_read"), _objects),
    **dict.fromkeys(("operations", "classes", "policies", "approvers", "groups"), _texts),
    "claimed_subject": _claimed,
    "masked": _masked,
    "changes": _changes,
}  # fmt: skip
