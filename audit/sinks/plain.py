"""One JSON object per event, in the log's own words. Pure."""

from __future__ import annotations

import json
from typing import Any

from audit.sinks.event import Event


def encode(event: Event) -> str:
    return dumps(as_json(event))


def as_json(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "log": event.log,
        "seq": event.seq,
        "leaf": event.leaf,
        "at": event.at_iso,
        "kind": event.kind,
        "severity": event.severity.name.lower(),
        "gateway": event.gateway,
        "session": event.session,
        "statement": event.statement,
        **{name: value for name, value in event.body.items() if name != "kind"},
        **({"statement_kind": event.body["kind"]} if "kind" in event.body else {}),
    }


def as_array(texts: list[str]) -> str:
    return f"[{','.join(texts)}]"


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
