"""What the tools answer, as models whose JSON schema the client is told, and how frames become them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from gateway.api.problems import DENIAL_MEMBERS

Status = Literal["completed", "pending", "denied", "expired", "failed", "explained"]


class ReviewReference(BaseModel):
    id: str
    url: str
    expires_at: float | str


class ResultColumn(BaseModel):
    name: str
    type: str
    masked: bool
    rule: str | None = None


class Problem(BaseModel):
    """Why a statement did not run. `permitted_alternative` is the smallest change that would be permitted."""

    code: str
    reason: str
    rule: str = ""
    permitted_alternative: str = ""
    permitted_statement: str = ""
    review_url: str = ""
    session_id: str = ""
    sqlstate: str = ""
    position: int = 0
    retry_after_s: int = 0


class StatementAnswer(BaseModel):
    """`pending`: a person must decide; show `review.url` to one and call wait_for_review with `statement_id`."""

    status: Status
    statement_id: str | None = None
    session_id: str | None = None
    columns: list[ResultColumn] = []
    rows: list[list[Any]] = []
    row_count: int | None = None
    truncated: bool = False
    command_tag: str = ""
    modified_to: str | None = None
    review: ReviewReference | None = None
    permitted_statement: str = ""
    problem: Problem | None = None
    next_step: str = ""


class Explanation(BaseModel):
    """What would happen. `cost` is what the database estimates, where it does."""

    action: Literal["allow", "require_approval", "deny"]
    rule: str = ""
    code: str = ""
    reason: str = ""
    permitted_alternative: str = ""
    reviewers: list[dict[str, Any]] = []
    masked: list[dict[str, Any]] = []
    clear: list[str] = []
    protected_columns: list[str] = []
    tables: list[str] = []
    cost: dict[str, Any] = {}
    risk: int | None = None


class ConnectionAnswer(BaseModel):
    name: str
    kind: str
    phi: bool
    operations: list[str]


class Connections(BaseModel):
    connections: list[ConnectionAnswer]


class Tables(BaseModel):
    """`read` is what a SELECT of a few rows would be answered with; the rest are described one by one."""

    tables: list[dict[str, Any]]
    next_offset: int | None = None


class AccessAnswer(BaseModel):
    """`permitted`: run it. `pending`: a review is open. `filed`: an administrator must change a rule first."""

    status: Literal["permitted", "pending", "filed", "denied"]
    statement_id: str | None = None
    review: ReviewReference | None = None
    problem: Problem | None = None
    next_step: str = ""


WAIT = "show review.url to a reviewer, then call wait_for_review with this statement_id; do not send it again"
Frame = Mapping[str, Any]


async def answer_of(frames: AsyncIterator[Frame], *, max_rows: int) -> StatementAnswer:
    """Read one statement's frames to the end, keeping at most `max_rows` rows."""
    answer: dict[str, Any] = {"status": "failed", "problem": {"code": "gateway-broke-off", "reason": "no answer"}}
    rows: list[list[Any]] = []
    async for frame in frames:
        match frame["type"]:
            case "accepted":
                answer |= {"statement_id": frame["id"], "session_id": frame["session_id"]}
            case "pending":
                answer |= {"status": "pending", "review": frame["review"], "problem": None, "next_step": WAIT}
                answer["permitted_statement"] = frame.get("permitted_statement") or ""
            case "resumed":
                changed = frame.get("modified_from") is not None
                answer |= {"next_step": "", "modified_to": frame.get("statement") if changed else None}
            case "columns":
                answer["columns"] = frame["columns"]
            case "rows":
                rows += frame["rows"][: max(0, max_rows - len(rows))]
            case "completed":
                answer |= {"status": "completed", "review": None, "problem": None, "row_count": frame["row_count"]}
                answer["command_tag"] = frame.get("command_tag") or ""
            case "denied" | "failed" as ending:
                answer |= {"status": ending, "review": None, "problem": problem_of(frame["problem"])}
    return finished(answer, rows, max_rows)


def kept_answer(kept: Frame, *, max_rows: int) -> StatementAnswer:
    """The same of a statement that was kept (`gateway.domain.statements.answer_of`)."""
    rows = list(kept.get("rows") or ())
    modified = kept.get("modified_from") is not None
    answer: dict[str, Any] = {
        "status": kept["status"],
        "statement_id": kept["id"],
        "session_id": kept["session_id"],
        "columns": kept.get("columns") or [],
        "row_count": kept.get("row_count"),
        "command_tag": kept.get("command_tag") or "",
        "modified_to": kept.get("statement") if modified else None,
        "problem": problem_of(kept["problem"]) if kept.get("problem") else None,
    }
    if kept["status"] == "pending":
        answer |= {"review": kept.get("review"), "next_step": WAIT}
    return finished(answer, rows[:max_rows], max_rows)


def finished(answer: dict[str, Any], rows: list[list[Any]], max_rows: int) -> StatementAnswer:
    count = answer.get("row_count") or 0
    truncated = bool(rows) and count > len(rows)
    hint = f"only the first {max_rows} rows are here; narrow the statement or raise max_rows" if truncated else ""
    return StatementAnswer(
        **{**answer, "rows": rows, "truncated": truncated, "next_step": hint or answer.get("next_step", "")}
    )


def problem_of(problem: Frame | None) -> dict[str, Any]:
    told = {name: value for name, value in (problem or {}).items() if name in {*DENIAL_MEMBERS, "code", "position"}}
    return {"code": "failed", "reason": "the statement did not run", **{k: v for k, v in told.items() if v}}


def explanation_of(frame: Frame) -> Explanation:
    decision, facts, masks = frame["decision"], frame.get("facts") or {}, frame.get("masks") or []
    wanted = ("action", "rule", "code", "reason", "permitted_alternative", "reviewers")
    return Explanation(
        **{name: decision[name] for name in wanted if decision.get(name)},
        masked=[_mask(mask) for mask in masks if mask["masked"] or mask["scans_text"]],
        clear=[mask["column"] for mask in masks if not (mask["masked"] or mask["scans_text"])],
        protected_columns=facts.get("protected", []),
        tables=sorted({*facts.get("tables_read", ()), *facts.get("tables_written", ())}),
        cost={name: facts[name] for name in COSTS if facts.get(name) is not None},
        risk=facts.get("risk", {}).get("score"),
    )


COSTS = ("estimated_rows", "row_bound", "estimated_bytes", "bytes_billed")


def _mask(mask: Frame) -> dict[str, Any]:
    how = mask["technique"] if mask["masked"] else "identifiers in the text are replaced"
    return {"column": mask["column"], "rule": mask["rule"], "technique": how}


def told(answer: BaseModel, *, is_error: bool = False) -> CallToolResult:
    """Structured content, and the same as text for models that read no structure."""
    # Only members of the answer itself are left out when null: a null inside a row is a value.
    content = {name: value for name, value in answer.model_dump(mode="json").items() if value is not None}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content, is_error=is_error)
