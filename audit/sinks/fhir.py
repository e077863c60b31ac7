"""FHIR R4 AuditEvent after IHE Basic Audit Log Patterns (https://profiles.ihe.net/ITI/BALP/). Pure.

A statement that ran is BALP's Query: client (DCM 110153), server (DCM 110152) and user (IRCP) as agents, the query as
an entity of role 24. That entity's text would be the statement, which never leaves; in its place stands the name of the
log entry that seals it. Everything else is an AuditEvent with the same agents and no profile claimed.

The resource's id is the event's: sent as a batch of PUT requests, a second delivery replaces the first.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
from typing import Any

from audit.domain.kinds import explain
from audit.sinks.event import PRODUCT, Event
from audit.sinks.plain import dumps

QUERY_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.Query"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_ENTRY = "urn:hoopweb:log-entry"


def encode(event: Event) -> str:
    return dumps(as_audit_event(event))


def as_batch(texts: list[str]) -> str:
    """One Bundle of PUT requests: idempotent by resource id."""
    entries = ",".join(
        f'{{"resource":{text},"request":{{"method":"PUT","url":"AuditEvent/{_id_of(text)}"}}}}' for text in texts
    )
    return f'{{"resourceType":"Bundle","type":"batch","entry":[{entries}]}}'


def _id_of(text: str) -> str:
    """The id stands first after the type: `encode` wrote it there."""
    return text.split('"id":"', 1)[1].split('"', 1)[0]


def as_audit_event(event: Event) -> dict[str, Any]:
    query = event.kind == "statement.completed" and event.text("status") == "completed"
    resource: dict[str, Any] = {"resourceType": "AuditEvent", "id": event.id}
    if query:
        resource["meta"] = {"profile": [QUERY_PROFILE]}
    resource |= _event_type(event)
    resource |= {
        "recorded": event.at_iso,
        "outcome": _outcome(event),
        "outcomeDesc": _outcome_description(event),
        "agent": [_user(event), _client(event), _server(event)],
        "source": {
            "site": event.log,
            "observer": {"display": f"{PRODUCT} {event.gateway}".strip()},
            "type": [_coding(f"{_TERMINOLOGY}/security-source-type", "4", "Application Server")],
        },
        "entity": [*_entities(event)],
    }
    return resource


def _event_type(event: Event) -> dict[str, Any]:
    area = event.kind.partition(".")[0]
    if area == "statement":
        rest = _coding(f"{_TERMINOLOGY}/audit-event-type", "rest", "Restful Operation")
        search = _coding("http://hl7.org/fhir/restful-interaction", "search", "search")
        return {"type": rest, "subtype": [search, _own(event)], "action": "E"}
    code, display, action = _TYPES.get(area, ("110100", "Application Activity", "E"))
    return {"type": _coding(_DCM, code, display), "subtype": [_own(event)], "action": action}


# DICOM PS3.16 CID 400: audit event ids.
_TYPES = {
    "session": ("110114", "User Authentication", "E"),
    "authentication": ("110114", "User Authentication", "E"),
    "person": ("110114", "User Authentication", "E"),
    "token": ("110114", "User Authentication", "E"),
    "ticket": ("110114", "User Authentication", "E"),
    "config": ("110113", "Security Alert", "U"),
    "key": ("110113", "Security Alert", "U"),
    "log": ("110113", "Security Alert", "E"),
    "evidence": ("110101", "Audit Log Used", "R"),
}


def _own(event: Event) -> dict[str, str]:
    return _coding("urn:hoopweb:kind", event.kind, explain(event.kind) or event.kind)


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def _outcome(event: Event) -> str:
    """http://terminology.hl7.org/CodeSystem/audit-event-outcome: 0 success, 4 minor, 8 serious failure."""
    if event.kind == "log.damage_found":
        return "8"
    failed = event.kind in ("statement.denied", "authentication.failed")
    unfinished = event.kind == "statement.completed" and event.text("status") != "completed"
    return "4" if failed or unfinished else "0"


def _outcome_description(event: Event) -> str:
    return event.text("status") or event.text("code") or event.text("decision") or event.text("reason") or event.kind


def _user(event: Event) -> dict[str, Any]:
    name = event.text("subject") or event.text("claimed_subject") or "unknown"
    code = "IRCP" if event.kind.startswith("statement.") else "AUT"
    return {
        "type": {"coding": [_coding(f"{_TERMINOLOGY}/v3-ParticipationType", code, _PARTICIPATION[code])]},
        "who": {"identifier": {"system": event.text("issuer", "urn:hoopweb:subject"), "value": name}, "display": name},
        "requestor": True,
        **({"altId": event.text("actor")} if event.text("actor") else {}),
        **({"policy": [f"urn:hoopweb:rule:{_urn(event.text('rule'))}"]} if event.text("rule") else {}),
    }


_PARTICIPATION = {"IRCP": "information recipient", "AUT": "author (originator)"}


def _client(event: Event) -> dict[str, Any]:
    """The network address of a statement is its session's, whose own event carries it."""
    address = event.text("client_address")
    agent: dict[str, Any] = {
        "type": {"coding": [_coding(_DCM, "110153", "Source Role ID")]},
        "who": {"display": f"session {event.session}" if event.session else "unknown"},
        "requestor": False,
    }
    with contextlib.suppress(ValueError):
        agent["network"] = {"address": str(ipaddress.ip_address(address)), "type": "2"}
    return agent


def _server(event: Event) -> dict[str, Any]:
    return {
        "type": {"coding": [_coding(_DCM, "110152", "Destination Role ID")]},
        "who": {"display": event.text("connection", PRODUCT)},
        "requestor": False,
    }


def _entities(event: Event) -> list[dict[str, Any]]:
    found = [_log_entry(event)]
    if event.kind.startswith("statement."):
        found.append(_query(event))
    found += [_table(name, "written") for name in event.names("tables_written")]
    return found + [_table(name, "read") for name in event.names("tables_read")]


def _log_entry(event: Event) -> dict[str, Any]:
    details = [{"type": "leaf", "valueString": event.leaf}, {"type": "kind", "valueString": event.kind}]
    for name in ("decision", "rule", "code", "classes", "masked", "review", "rows", "fingerprint"):
        value = event.body.get(name)
        if value not in (None, "", []):
            details.append({"type": name, "valueString": value if isinstance(value, str) else dumps(value)})
    return {
        "what": {"identifier": {"system": _ENTRY, "value": f"{event.log}#{event.seq}"}},
        "type": _coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
        "role": _coding(f"{_TERMINOLOGY}/object-role", "13", "Security Resource"),
        "detail": details,
    }


def _query(event: Event) -> dict[str, Any]:
    text = f"statement {event.statement}; its text is sealed in {event.log}"
    return {
        "type": _coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
        "role": _coding(f"{_TERMINOLOGY}/object-role", "24", "Query"),
        "description": "the query's text is kept sealed in the evidence log",
        "query": base64.b64encode(text.encode()).decode(),
    }


def _table(name: str, use: str) -> dict[str, Any]:
    return {
        "what": {"display": name},
        "type": _coding(f"{_TERMINOLOGY}/audit-entity-type", "2", "System Object"),
        "role": _coding(f"{_TERMINOLOGY}/object-role", "4", "Domain Resource"),
        "description": use,
    }


def _urn(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._~") else "-" for c in text)
