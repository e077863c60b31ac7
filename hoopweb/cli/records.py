"""`connections`, `reviews` and `sessions`: lists and what may be done about their members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from hoopweb.cli.output import shown, write_json, write_members, write_records
from hoopweb.cli.server import Server

CONNECTION_FIELDS = ("name", "kind", "phi", "operations")
REVIEW_FIELDS = ("id", "status", "connection", "subject", "kind", "rule", "opened_at")
SESSION_FIELDS = ("id", "subject", "connection", "protocol", "opened_at", "closed_at", "statements", "denied", "rows")
_SHOWN_OF_A_REVIEW = (
    "id", "url", "status", "connection", "subject", "actor", "owner", "kind", "rule", "reason", "risk", "opened_at",
    "expires_at", "round", "modified_by", "parameters",
)  # fmt: skip
_SHOWN_OF_ITS_FACTS = ("tables_read", "tables_written", "protected_read", "protected_written", "problems", "inference")


def list_connections(server: Server, *, layout: str, out: TextIO) -> None:
    write_records(out, server.get("connections"), fields=CONNECTION_FIELDS, layout=layout)


def list_reviews(server: Server, *, status: str, connection: str, limit: int, layout: str, out: TextIO) -> None:
    wanted = _given(status=status, connection=connection, limit=str(limit))
    found = server.get("reviews", **wanted)["results"]
    write_records(out, found, fields=REVIEW_FIELDS, layout=layout)


def show_review(server: Server, *, review_id: str, layout: str, out: TextIO) -> None:
    """The request with its statement. The server records who read it."""
    _write_review(server.get("reviews", review_id), layout=layout, out=out)


def decide_review(
    server: Server, *, review_id: str, decision: str, reason: str, seen_round: int | None, out: TextIO
) -> None:
    """Approve or deny. `seen_round` is the round that was looked at; the server asks for it once one was modified."""
    body: dict[str, Any] = {"decision": decision, "reason": reason}
    if seen_round is not None:
        body["round"] = seen_round
    decided = server.post("reviews", review_id, "decision", body=body)
    write_members(out, {name: decided.get(name) for name in ("id", "status", "connection", "subject", "rule")})


def list_sessions(
    server: Server, *, live: bool, connection: str, subject: str, limit: int, layout: str, out: TextIO
) -> None:
    wanted = _given(live="true" if live else "", connection=connection, subject=subject, page_size=str(limit))
    found = server.get("sessions", **wanted)["results"]
    write_records(out, found, fields=SESSION_FIELDS, layout=layout)


def kill_session(server: Server, *, session_id: str, out: TextIO) -> None:
    ended = server.post("sessions", session_id, "kill")
    out.write(f"asked the gateway to end session {shown(ended['id'])}\n")


def _write_review(review: Mapping[str, Any], *, layout: str, out: TextIO) -> None:
    if layout == "json":
        write_json(out, review)
        return
    facts = review.get("facts") or {}
    write_members(
        out,
        {name: review.get(name) for name in _SHOWN_OF_A_REVIEW}
        | {name: facts.get(name) for name in _SHOWN_OF_ITS_FACTS},
    )
    for vote in review.get("votes") or []:
        out.write(f"vote  {shown(vote['decision'])} by {shown(vote['reviewer'])}: {shown(vote['reason'])}\n")
    if review.get("modified_from"):
        out.write(f"\nasked\n{shown(review['modified_from'], lines=True)}\n")
    out.write(f"\nstatement\n{shown(review['statement'], lines=True)}\n")


def _given(**query: str) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}
