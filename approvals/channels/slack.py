"""Slack: interactive messages through an incoming webhook, and the proof that an answer comes from Slack.

Messages are Block Kit (docs.slack.dev/reference/block-kit); all texts are plain_text, so nothing in them is markup.
Requests are signed as docs.slack.dev/authentication/verifying-requests-from-slack says: `v0=` and the HMAC-SHA256 of
"v0:timestamp:body" under the app's signing secret, refused when the timestamp is more than five minutes off.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from approvals.domain.events import EVENTS, WHILE_PENDING
from approvals.domain.notices import moment_words
from approvals.models import Channel, Delivery
from audit.domain.words import kind_words

WINDOW_S = 300
# From this risk on, looking at the statement itself comes first: no button in chat approves.
DECIDE_BELOW_RISK = 60
APPROVE, DENY, REASON = "hoopweb-approve", "hoopweb-deny", "hoopweb-reason"

Block = dict[str, Any]


def slack_body(delivery: Delivery) -> bytes:
    """The message for a channel's incoming webhook."""
    blocks = message_blocks(delivery.event, delivery.payload, may_decide=bool(delivery.channel.people))
    text = headline(delivery.event, delivery.payload)
    return json.dumps({"text": _escaped(text), "blocks": blocks}, ensure_ascii=False).encode()


def message_blocks(event: str, payload: dict[str, Any], *, may_decide: bool) -> list[Block]:
    """Who asks for what, where; a link to the page; buttons where people of this workspace are known."""
    lines = [(label, name, payload.get(name)) for label, name in _LINES]
    fields = [_plain(f"{label}: {_said(name, value)}") for label, name, value in lines if _says(name, value)]
    blocks: list[Block] = [{"type": "header", "text": _plain(headline(event, payload), limit=150)}]
    blocks += [{"type": "section", "fields": fields[at : at + 10]} for at in range(0, len(fields), 10)]
    if "url" in payload:
        blocks.append({"type": "actions", "elements": [_link(payload["url"])]})
    if may_decide and event in WHILE_PENDING:
        blocks += _decision(payload)
    return blocks


def headline(event: str, payload: dict[str, Any]) -> str:
    what = f"{kind_words(payload.get('kind', ''))} on {payload.get('connection', '')}".strip()
    match event:
        case "review.opened":
            return f"Review wanted: {what}"
        case "review.reminder":
            return f"Running out of time: {what}"
        case "review.escalated":
            return f"Nobody decided: {what}"
        case "review.ended":
            return f"{str(payload.get('status', '')).capitalize()}: {what}"
        case "channel.test":
            return "This channel works"
    sentence = EVENTS.get(event, event)
    return f"{sentence[:1].upper()}{sentence[1:]}: {payload.get('connection', '')}"


def is_from_slack(*, secret: str, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Whether the request was signed by Slack within the window. False for a missing secret, too."""
    if not secret or not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > WINDOW_S:
        return False
    signed = f"v0:{timestamp}:".encode() + body
    expected = "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


def mapped_user(channel: Channel, interaction: dict[str, Any]) -> str | None:
    """The account behind the person who pressed the button; None for everyone who is not mapped."""
    team = str((interaction.get("team") or {}).get("id", ""))
    member = str((interaction.get("user") or {}).get("id", ""))
    found = channel.people.get(f"{team}/{member}") if team and member else None
    return str(found) if found else None


def typed_reason(interaction: dict[str, Any]) -> str:
    """What stands in the message's input."""
    values = ((interaction.get("state") or {}).get("values") or {}).get(REASON) or {}
    return str((values.get(REASON) or {}).get("value") or "")


_LINES = (
    ("Who", "subject"),
    ("Through", "actor"),
    ("Answered for by", "owner"),
    ("Person", "person"),
    ("Connection", "connection"),
    ("Tables", "tables"),
    ("Protected", "classes"),
    ("Rows changed, about", "rows_changed"),
    ("Rows returned, about", "rows_returned"),
    ("Rule", "rule"),
    ("Risk", "risk"),
    ("Decide by", "decide_by"),
    ("Ends", "ends_at"),
    ("Review by", "review_by"),
)


_COUNTS = frozenset({"rows_changed", "rows_returned"})
_MOMENTS = frozenset({"decide_by", "ends_at", "review_by"})


def _decision(payload: dict[str, Any]) -> list[Block]:
    value = f"{payload['review']}:{payload['round']}"
    buttons = [_button("Deny", DENY, value, "danger")]
    if payload["risk"] < DECIDE_BELOW_RISK:
        buttons.insert(0, _button("Approve once", APPROVE, value, "primary"))
    reason = {
        "type": "input",
        "block_id": REASON,
        "optional": True,
        "label": _plain("Your reason"),
        "element": {"type": "plain_text_input", "action_id": REASON, "max_length": 2000},
    }
    return [reason, {"type": "actions", "elements": buttons}]


def _button(text: str, action: str, value: str, style: str) -> Block:
    return {"type": "button", "text": _plain(text), "action_id": action, "value": value, "style": style}


def _link(url: str) -> Block:
    return {"type": "button", "text": _plain("Look at it and decide"), "action_id": "hoopweb-open", "url": url}


def _plain(text: str, limit: int = 2000) -> Block:
    return {"type": "plain_text", "text": text[:limit] or "-", "emoji": False}


def _says(name: str, value: object) -> bool:
    """Whether a line tells something. That a write returns no rows, and a read changes none, does not."""
    return value not in (None, "", []) and not (name in _COUNTS and value == 0)


def _said(name: str, value: object) -> str:
    if name in _MOMENTS:
        return moment_words(str(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _escaped(text: str) -> str:
    """The three characters that mean something in a message's fallback text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
