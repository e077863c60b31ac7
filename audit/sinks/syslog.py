"""RFC 5424 messages, and the octet counting of RFC 5425 §4.3 and RFC 6587 §3.4.1. Pure.

Facility 13 (log audit). The structured data element is named under 32473, the enterprise number that RFC 5612 reserves
for documentation: this product has none of its own.
"""

from __future__ import annotations

from audit.sinks.event import PRODUCT, Event, Severity
from audit.sinks.plain import dumps

FACILITY = 13
ELEMENT = "hoopweb@32473"
# RFC 5424 §6.2.1 numbers severities the other way round.
SEVERITIES = {
    Severity.INFORMATIONAL: 6,
    Severity.LOW: 5,
    Severity.MEDIUM: 4,
    Severity.HIGH: 3,
    Severity.CRITICAL: 2,
}
_BOM = "\ufeff"  # §6.4: the message is UTF-8


def encode(event: Event) -> str:
    """The structured data and a short message: what `message` puts behind the header."""
    fields = [("id", event.id), ("seq", event.seq), ("session", event.session), ("statement", event.statement)]
    fields += [(name, value) for name, value in event.body.items() if value not in ("", [], None)]
    pairs = "".join(f' {_param_name(name)}="{_escaped(value)}"' for name, value in fields if value not in ("", None))
    return f"[{ELEMENT}{pairs}] {_BOM}{event.kind}"


def message(event: Event, payload: str, *, host: str, structured: bool) -> bytes:
    """A whole RFC 5424 message. `payload` is structured data with its message, or a message alone."""
    priority = FACILITY * 8 + SEVERITIES[event.severity]
    header = f"<{priority}>1 {event.at_iso} {_printable(host, 255)} {PRODUCT} {_printable(event.gateway, 128)}"
    body = payload if structured else f"- {payload}"
    return f"{header} {_printable(event.kind, 32)} {body}".encode()


def framed(frame: bytes) -> bytes:
    """Octet counting: MSG-LEN SP SYSLOG-MSG."""
    return str(len(frame)).encode() + b" " + frame


def _printable(text: str, most: int) -> str:
    """PRINTUSASCII of a header field; nil when there is nothing."""
    kept = "".join(c for c in text if "!" <= c <= "~")
    return kept[:most] or "-"


def _param_name(name: str) -> str:
    return _printable(name.replace("=", "").replace("]", "").replace('"', ""), 32)


def _escaped(value: object) -> str:
    text = value if isinstance(value, str) else dumps(value)
    # §6.3.3: these three, and only these, are escaped in a parameter's value.
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
