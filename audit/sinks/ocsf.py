"""OCSF 1.3.0 (https://schema.ocsf.io/1.3.0/): which class an entry is, and its attributes. Pure.

Statements are 6005 Datastore Activity, sessions and sign-ins 3002 Authentication, grants 3005 User Access Management,
configuration 3004 Entity Management, programs 6002 Application Lifecycle, damage 2004 Detection Finding; every other
entry is 6003 API Activity with its kind as the operation. `metadata.uid` is the event's stable id, `metadata.sequence`
its place in the log. `unmapped` holds what OCSF has no attribute for, such as decision, rule and masks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from audit.sinks.event import PRODUCT, PRODUCT_VERSION, VENDOR, Event
from audit.sinks.plain import dumps

VERSION = "1.3.0"
_OTHER = 99
_HOST = "host"  # the profile that adds the actor to 3004
_SECURITY_CONTROL = "security_control"  # the profile that has action_id
_CATEGORY = {6: "Application Activity", 3: "Identity & Access Management", 2: "Findings"}


def encode(event: Event) -> str:
    return dumps(as_ocsf(event))


def as_ocsf(event: Event) -> dict[str, Any]:
    """The event as a JSON object that is valid against the schema of its class."""
    return _mapping(event.kind)(event)


def _mapping(kind: str) -> Callable[[Event], dict[str, Any]]:
    return _BY_KIND.get(kind) or _BY_AREA.get(kind.partition(".")[0]) or _api_activity


def _base(event: Event, *, class_uid: int, class_name: str, activity: int, name: str) -> dict[str, Any]:
    return {
        "class_uid": class_uid,
        "class_name": class_name,
        "category_uid": class_uid // 1000,
        "category_name": _CATEGORY[class_uid // 1000],
        "activity_id": activity,
        "activity_name": name,
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{class_name}: {name}",
        "time": event.at_us // 1000,
        "severity_id": int(event.severity),
        "severity": event.severity.name.capitalize(),
        "metadata": {
            "version": VERSION,
            "uid": event.id,
            "sequence": event.seq,
            "event_code": event.kind,
            "log_name": event.log,
            "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": PRODUCT_VERSION},
            **({"correlation_uid": event.session} if event.session else {}),
        },
        "unmapped": {"leaf": event.leaf, "gateway": event.gateway, **_rest(event)},
    }


def _rest(event: Event) -> dict[str, Any]:
    """What has no attribute of its own."""
    names = ("decision", "rule", "code", "policies", "review", "grant", "emergency", "masks", "roster", "approvers",
             "modified", "risk", "snapshot", "fingerprint", "complete", "operations", "tables_read", "tables_written",
             "columns_read", "classes", "masked", "durability", "recording", "protocol", "owner", "status", "bytes",
             "what", "version", "entries", "reason", "size")  # fmt: skip
    return {name: event.body[name] for name in names if name in event.body}


def _datastore(event: Event) -> dict[str, Any]:
    activity, name = _datastore_activity(event)
    base = _base(event, class_uid=6005, class_name="Datastore Activity", activity=activity, name=name)
    tables = [*event.names("tables_written"), *event.names("tables_read")]
    ended = event.kind in ("statement.completed", "statement.denied")
    base |= {
        "actor": _actor(event),
        "src_endpoint": _endpoint(event),
        "database": {"name": event.text("connection", "unknown"), "type_id": 1, "type": "Relational"},
        "type_id": 1,
        "type": "Database",
        **_disposition(event),
        **(_status(event) if ended else {}),
    }
    base["metadata"]["profiles"] = [_SECURITY_CONTROL]
    if tables:
        base["table"] = {"name": tables[0]}
    if event.statement:
        # The text is sealed in the log; whoever may read it finds it by this id.
        base["unmapped"]["statement_uid"] = event.statement
    if event.kind == "statement.completed":
        base["count"] = 1
        base["unmapped"]["rows"] = event.number("rows")
    return base


def _datastore_activity(event: Event) -> tuple[int, str]:
    operations = set(event.names("operations"))
    if event.kind == "statement.explained":
        return _OTHER, "Explain"
    if "write" in operations:
        return 5, "Write"
    if operations and operations != {"read"}:
        return _OTHER, "Other"
    return 4, "Query"


def _disposition(event: Event) -> dict[str, Any]:
    """`action_id`: 1 Allowed, 2 Denied; a statement that waits is neither yet (security_control profile)."""
    if event.kind == "statement.denied" or event.text("decision") == "deny":
        return {"action_id": 2, "action": "Denied"}
    if event.kind == "statement.held":
        return {"action_id": _OTHER, "action": "Held for review"}
    return {"action_id": 1, "action": "Allowed"}


def _status(event: Event) -> dict[str, Any]:
    good = event.kind == "statement.completed" and event.text("status") == "completed"
    code = event.text("error") or event.text("sqlstate")
    status = {"status_id": 1, "status": "Success"} if good else {"status_id": 2, "status": "Failure"}
    return status | ({"status_code": code} if code else {})


def _authentication(event: Event) -> dict[str, Any]:
    activity, name = _AUTHENTICATION.get(event.kind, (_OTHER, "Other"))
    base = _base(event, class_uid=3002, class_name="Authentication", activity=activity, name=name)
    failed = event.kind == "authentication.failed"
    base |= {
        "user": _user(event),
        "service": {"name": event.text("connection", "console")},
        "src_endpoint": _endpoint(event),
        "auth_protocol_id": _OTHER,
        "auth_protocol": event.text("auth_method", "unknown"),
        "is_remote": True,
        "status_id": 2 if failed else 1,
        "status": "Failure" if failed else "Success",
    }
    if event.session:
        base["session"] = {"uid": event.session, "issuer": event.text("issuer", "unknown")}
    if failed:
        base["status_detail"] = event.text("reason", "refused")
    return base


_AUTHENTICATION = {
    "session.opened": (1, "Logon"),
    "session.closed": (2, "Logoff"),
    "person.signed_in": (1, "Logon"),
    "person.signed_out": (2, "Logoff"),
    "authentication.failed": (1, "Logon"),
    "token.issued": (3, "Authentication Ticket"),
    "ticket.bought": (4, "Service Ticket Request"),
    "ticket.redeemed": (4, "Service Ticket Request"),
}


def _user_access(event: Event) -> dict[str, Any]:
    revoked = event.kind in ("grant.revoked", "grant.released")
    activity, name = (2, "Revoke Privileges") if revoked else (1, "Assign Privileges")
    base = _base(event, class_uid=3005, class_name="User Access Management", activity=activity, name=name)
    return base | {
        "user": _user(event),
        "privileges": [event.text("grant") or event.text("review") or event.kind],
        "resource": {"name": event.text("connection", "unknown"), "type": "connection"},
    }


def _entity(event: Event) -> dict[str, Any]:
    changes = event.body.get("changes") or []
    actions = {change["action"] for change in changes}
    activity, name = _ENTITY.get(actions.pop() if len(actions) == 1 else "update", (3, "Update"))
    base = _base(event, class_uid=3004, class_name="Entity Management", activity=activity, name=name)
    base["metadata"]["profiles"] = [_HOST]
    first = changes[0] if changes else {"section": event.kind, "name": event.text("purpose", event.kind)}
    base["unmapped"]["changes"] = changes
    return base | {
        "actor": _actor(event),
        "entity": {"name": str(first["name"]), "type": str(first["section"])},
        "comment": f"{len(changes)} changes" if changes else event.kind,
    }


_ENTITY = {"create": (1, "Create"), "update": (3, "Update"), "delete": (4, "Delete")}


def _lifecycle(event: Event) -> dict[str, Any]:
    activity, name = (3, "Start") if event.kind == "gateway.started" else (4, "Stop")
    base = _base(event, class_uid=6002, class_name="Application Lifecycle", activity=activity, name=name)
    return base | {"app": {"name": "hoopweb gateway", "vendor_name": VENDOR, "version": PRODUCT_VERSION}}


def _finding(event: Event) -> dict[str, Any]:
    base = _base(event, class_uid=2004, class_name="Detection Finding", activity=1, name="Create")
    base["metadata"]["profiles"] = [_SECURITY_CONTROL]
    return base | {
        "finding_info": {"uid": event.id, "title": "the stored evidence is not as written"},
        "action_id": _OTHER,
        "action": "Observed",
    }


def _api_activity(event: Event) -> dict[str, Any]:
    activity, name = _API.get(event.kind, (_OTHER, "Other"))
    base = _base(event, class_uid=6003, class_name="API Activity", activity=activity, name=name)
    return base | {
        "actor": _actor(event),
        "src_endpoint": _endpoint(event),
        "api": {"operation": event.kind, "service": {"name": PRODUCT}},
    }


_API = {
    "evidence.viewed": (2, "Read"),
    "evidence.searched": (2, "Read"),
    "evidence.exported": (2, "Read"),
    "evidence.purged": (4, "Delete"),
    "review.opened": (1, "Create"),
    "review.decided": (3, "Update"),
}


def _user(event: Event) -> dict[str, Any]:
    name = event.text("subject") or event.text("claimed_subject") or event.text("requester") or "unknown"
    groups = [{"name": group} for group in event.names("groups")]
    return {"name": name, "uid": name, **({"groups": groups} if groups else {})}


def _actor(event: Event) -> dict[str, Any]:
    actor: dict[str, Any] = {"user": _user(event)}
    if event.text("actor"):
        actor["app_name"] = event.text("actor")
    if event.session:
        actor["session"] = {"uid": event.session}
    return actor


def _endpoint(event: Event) -> dict[str, Any]:
    address = event.text("client_address")
    try:
        return {"ip": str(ipaddress.ip_address(address))}
    except ValueError:
        # A statement's address is its session's: the session.opened event with this session carries it.
        return {"uid": event.session or event.gateway or "unknown"}


_BY_KIND: Mapping[str, Callable[[Event], dict[str, Any]]] = {
    **dict.fromkeys(_AUTHENTICATION, _authentication),
    **dict.fromkeys(("gateway.started", "gateway.stopped"), _lifecycle),
    **dict.fromkeys(("log.damage_found", "journal.damaged", "journal.missing"), _finding),
}
_BY_AREA: Mapping[str, Callable[[Event], dict[str, Any]]] = {
    "statement": _datastore,
    "grant": _user_access,
    "config": _entity,
    "key": _entity,
}
