"""Google Cloud Logging `entries.write`. Pure.

https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/write

`insertId` is the event's stable id: the service drops a second entry with the same id and timestamp. `jsonPayload` has
the shape of an AuditLog. The log's name and resource are asked for as `?project=…&log=…` on the sink's URL.
"""

from __future__ import annotations

from typing import Any

from audit.sinks.event import Event, Severity
from audit.sinks.plain import as_json, dumps

SEVERITIES = {
    Severity.INFORMATIONAL: "INFO",
    Severity.LOW: "NOTICE",
    Severity.MEDIUM: "WARNING",
    Severity.HIGH: "ERROR",
    Severity.CRITICAL: "CRITICAL",
}


def encode(event: Event) -> str:
    return dumps(as_entry(event))


def as_entry(event: Event) -> dict[str, Any]:
    subject = event.text("subject") or event.text("claimed_subject")
    denied = event.kind in ("statement.denied", "authentication.failed")
    # PERMISSION_DENIED and UNAUTHENTICATED of google.rpc.Code.
    status = {"code": 7 if event.kind == "statement.denied" else 16} if denied else {}
    return {
        "insertId": event.id,
        "timestamp": event.at_iso,
        "severity": SEVERITIES[event.severity],
        "labels": {"log": event.log, "kind": event.kind, "session": event.session},
        "jsonPayload": {
            "serviceName": "hoopweb",
            "methodName": event.kind,
            "resourceName": f"connections/{event.text('connection', '-')}",
            "authenticationInfo": {"principalEmail": subject},
            "requestMetadata": {"callerIp": event.text("client_address")},
            "status": status,
            "metadata": as_json(event),
        },
    }


def as_write(texts: list[str]) -> str:
    """The body of `entries.write`, but for the log's name, which the sink's URL gives."""
    return f'{{"entries":[{",".join(texts)}],"partialSuccess":false}}'
