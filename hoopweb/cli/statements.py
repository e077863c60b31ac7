"""`query`, `result` and `explain`: run one statement, wait for the people it needs, show what came back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

from hoopweb.cli.failures import CommandFailed, Exit, failure_of
from hoopweb.cli.output import shown, write_json, write_members, write_rows
from hoopweb.cli.server import Server

Answer = Mapping[str, Any]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
_FINAL = {"completed", "denied", "expired", "failed"}


def query(
    server: Server, *, connection: str, statement: str, parameters: list[str], wait_s: float | None, err: TextIO
) -> Answer:
    """Run `statement`; a held one is waited for: `wait_s`, or as long as its review lives."""
    body: dict[str, Any] = {"statement": statement}
    if parameters:
        body["parameters"] = parameters
    answer = server.post("connections", connection, "statements", body=body)
    return settled(server, answer, wait_s=wait_s, err=err)


def result(server: Server, *, statement_id: str, wait_s: float | None, err: TextIO) -> Answer:
    """The answer of a statement that was held."""
    return settled(server, server.get("statements", statement_id), wait_s=wait_s, err=err)


def settled(server: Server, answer: Answer, *, wait_s: float | None, err: TextIO) -> Answer:
    """The completed answer. Raises CommandFailed for every other end, and when the time to wait is over."""
    if answer["status"] not in _FINAL:
        answer = _awaited(server, answer, wait_s=wait_s, err=err)
    if answer["status"] == "completed":
        _tell_modified(answer, err)
        return answer
    problem = answer.get("problem") or {"code": answer["status"]}
    raise failure_of(problem, status=Exit.FAILED if answer["status"] == "failed" else Exit.DENIED)


def _awaited(server: Server, answer: Answer, *, wait_s: float | None, err: TextIO) -> Answer:
    statement_id, review = str(answer["id"]), answer.get("review") or {}
    err.write(f"this statement waits for approval (rule {shown(review.get('rule', ''))}): {shown(review.get('url'))}\n")
    err.write(f"waiting; once interrupted, ask for the answer with: hoopweb result {shown(statement_id)}\n")
    err.flush()
    deadline = time.monotonic() + (_left_s(review) if wait_s is None else wait_s)
    pause_s = _FIRST_PAUSE_S
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        answer = server.get("statements", statement_id)
        if answer["status"] in _FINAL:
            return answer
    raise CommandFailed(
        "the statement still waits for approval",
        status=Exit.PENDING,
        notes={"review": str(review.get("url", "")), "later": f"hoopweb result {statement_id}"},
    )


def _left_s(review: Mapping[str, Any]) -> float:
    """How long the review may take, and a little for its end to be written down."""
    try:
        end = datetime.fromisoformat(str(review.get("expires_at")))
        return max(0.0, (end - datetime.now(tz=end.tzinfo)).total_seconds()) + _LONGEST_PAUSE_S
    except ValueError:
        return 0.0


def _tell_modified(answer: Answer, err: TextIO) -> None:
    if answer.get("modified_from"):
        err.write(f"the reviewer changed the statement; this ran:\n{shown(answer.get('statement'), lines=True)}\n")


def write_answer(answer: Answer, *, layout: str, out: TextIO, err: TextIO) -> None:
    """Rows on `out`; what is no row (the command's tag, masked columns) on `err`."""
    if layout == "json":
        write_json(out, answer)
        return
    columns = answer.get("columns") or []
    if columns:
        write_rows(out, names=[column["name"] for column in columns], rows=answer.get("rows") or [], layout=layout)
    masked = [f"{shown(column['name'])} ({shown(column['rule'])})" for column in columns if column["masked"]]
    tag = shown(answer.get("command_tag") or f"{answer.get('row_count', 0)} rows")
    err.write(f"{tag}{'; masked: ' + ', '.join(masked) if masked else ''}\n")


def explain(server: Server, *, connection: str, statement: str) -> Answer:
    """What would happen; nothing runs."""
    answer: Answer = server.post(
        "connections", connection, "statements", body={"statement": statement, "dry_run": True}
    )
    return answer


def write_explained(answer: Answer, out: TextIO) -> None:
    decision, facts = answer.get("decision") or {}, answer.get("facts") or {}
    reviewers = [f"{entry['quorum']} of {entry['group']}" for entry in decision.get("reviewers") or []]
    write_members(
        out,
        {
            "decision": decision.get("action"),
            "rule": decision.get("rule"),
            "reason": decision.get("reason"),
            "permitted": decision.get("permitted_alternative"),
            "reviewers": reviewers,
            "kind": facts.get("kind"),
            "operations": facts.get("operations"),
            "reads": facts.get("tables_read"),
            "writes": facts.get("tables_written"),
            "protected": facts.get("protected"),
            "problems": facts.get("problems"),
        },
    )
    for mask in answer.get("masks") or []:
        if mask.get("masked"):
            out.write(f"masked  {shown(mask['column'])} by {shown(mask['rule'])} ({shown(mask['technique'])})\n")
