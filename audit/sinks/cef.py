"""Common Event Format, version 0: `CEF:0|vendor|product|version|signature|name|severity|extension`. Pure.

A pipe or backslash in the header and an equals sign or backslash in the extension are escaped; a newline in a value is
written `\\n`. Custom strings carry their labels.
"""

from __future__ import annotations

from audit.domain.kinds import explain
from audit.sinks.event import PRODUCT, PRODUCT_VERSION, VENDOR, Event, Severity
from audit.sinks.plain import dumps

SEVERITIES = {
    Severity.INFORMATIONAL: 1,
    Severity.LOW: 3,
    Severity.MEDIUM: 5,
    Severity.HIGH: 8,
    Severity.CRITICAL: 10,
}


def encode(event: Event) -> str:
    header = (VENDOR, PRODUCT, PRODUCT_VERSION, event.kind, explain(event.kind) or event.kind)
    fields = [f"{key}={_value(value)}" for key, value in _extension(event) if value not in ("", [], None)]
    return f"CEF:0|{'|'.join(map(_header, header))}|{SEVERITIES[event.severity]}|{' '.join(fields)}"


def _extension(event: Event) -> list[tuple[str, object]]:
    subject = event.text("subject") or event.text("claimed_subject")
    return [
        ("rt", event.at_us // 1000),
        ("externalId", event.id),
        ("suser", subject),
        ("src", event.text("client_address")),
        ("act", event.text("decision") or event.text("status") or event.text("code")),
        ("outcome", event.text("status")),
        ("reason", event.text("reason")),
        ("cnt", event.number("rows") or None),
        ("destinationServiceName", event.text("connection")),
        ("app", event.text("protocol")),
        *_labelled("cs1", "session", event.session),
        *_labelled("cs2", "statement", event.statement),
        *_labelled("cs3", "rule", event.text("rule")),
        *_labelled("cs4", "tables", ",".join([*event.names("tables_read"), *event.names("tables_written")])),
        *_labelled("cs5", "dataClasses", ",".join(event.names("classes"))),
        *_labelled("cs6", "leaf", event.leaf),
        *_labelled("cn1", "seq", event.seq),
        *_labelled("cn2", "maskedValues", sum(mask["count"] for mask in event.body.get("masked", ())) or None),
    ]


def _labelled(key: str, label: str, value: object) -> list[tuple[str, object]]:
    return [(key, value), (f"{key}Label", label)] if value not in ("", None) else []


def _header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else dumps(value)
    return text.replace("\\", "\\\\").replace("=", "\\=").replace("\r", "\\r").replace("\n", "\\n")
