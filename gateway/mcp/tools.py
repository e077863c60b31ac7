"""The tools an agent gets. Each is one call of the data plane with the agent's own token: nothing is decided here.

There is no tool that approves, denies or changes a rule: agents ask, people decide.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from pydantic import Field

from approvals.domain.request import Principal
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.api import dataplane
from gateway.api.serializers import MAX_STATEMENT_CHARS
from gateway.domain.connections import usable_connections
from gateway.domain.statements import FINAL, collect, find_own
from gateway.domain.threads import in_thread
from gateway.letter_box import answer_now
from gateway.mcp import answers
from gateway.mcp.tokens import GovernedToken, current_token
from gateway.models import RestStatement

MAX_ROWS = 5000
MAX_WAIT_S = 300
POLL_S = 1.0
PROTOCOL = "mcp"

ConnectionName = Annotated[str, Field(max_length=63, description="a name from list_connections")]
StatementText = Annotated[
    str, Field(min_length=1, max_length=MAX_STATEMENT_CHARS, description="one statement in the connection's own SQL")
]
Parameters = Annotated[list[Any] | None, Field(max_length=1000, description="values of $1, $2 … in order")]
Rows = Annotated[int, Field(ge=1, le=MAX_ROWS, description="rows to return at most; say LIMIT as well")]
WaitS = Annotated[float, Field(ge=0, le=MAX_WAIT_S, description="seconds to wait for a person's decision")]


async def list_connections() -> Annotated[CallToolResult, answers.Connections]:
    """List the databases you may use, and which kinds of statements on each."""
    usable = await in_thread(usable_connections, current_token().principal.groups)
    found = [
        answers.ConnectionAnswer(name=name, kind=spec.kind, phi=spec.phi, operations=sorted(map(str, operations)))
        for name, (spec, operations) in sorted(usable.items())
    ]
    return answers.told(answers.Connections(connections=found))


async def list_schemas(
    ctx: Context[Any, Any], connection: ConnectionName, offset: Annotated[int, Field(ge=0)] = 0
) -> Annotated[CallToolResult, answers.Tables]:
    """List the tables and views of a connection as you may see them, a hundred at a time.

    `read.action` says what selecting a few rows of all columns would be answered with.
    """
    return await _described(ctx, {"connection": connection, "offset": offset})


async def describe_table(
    ctx: Context[Any, Any],
    connection: ConnectionName,
    table: Annotated[str, Field(max_length=200, description="schema.table, as list_schemas names it")],
) -> Annotated[CallToolResult, answers.Tables]:
    """Describe a table's columns: type, and whether values come out clear, masked, held or denied, by which rule."""
    return await _described(ctx, {"connection": connection, "table": table})


async def query(  # noqa: PLR0917, the signature is the tool's schema
    ctx: Context[Any, Any],
    connection: ConnectionName,
    statement: StatementText,
    parameters: Parameters = None,
    max_rows: Rows = 200,
    wait_s: WaitS = 0,
) -> Annotated[CallToolResult, answers.StatementAnswer]:
    """Run one statement. Protected values come out masked; `columns` says which.

    `denied` answers carry the rule and the smallest permitted alternative: change the statement, repeating it changes
    nothing. `pending` answers need a person: show `review.url`, then call wait_for_review.
    """
    body = {"connection": connection, "statement": statement, "parameters": parameters or [], "wait_s": wait_s}
    return _told(await _asked(ctx, body, max_rows=max_rows))


async def explain(
    ctx: Context[Any, Any], connection: ConnectionName, statement: StatementText
) -> Annotated[CallToolResult, answers.Explanation]:
    """Say what would happen to a statement without running it: the decision, what is masked, what it costs."""
    body = {"connection": connection, "statement": statement, "dry_run": True}
    try:
        return answers.told(answers.explanation_of(await _dry_run(ctx, body)))
    except _Refused as refused:
        return answers.told(answers.Explanation(action="deny", code=refused.code, reason=refused.reason), is_error=True)


async def request_access(
    ctx: Context[Any, Any],
    connection: ConnectionName,
    statement: StatementText,
    reason: Annotated[
        str, Field(min_length=10, max_length=2000, description="why you need it, for the person deciding")
    ],
    parameters: Parameters = None,
) -> Annotated[CallToolResult, answers.AccessAnswer]:
    """Ask people for a statement you may not simply run. Your reason is recorded.

    What reviewers may approve is held for them (`pending`); what no rule permits is filed for an administrator.
    """
    body = {"connection": connection, "statement": statement}
    file = partial(
        _file, principal=current_token().principal, connection=connection, reason=reason, statement=statement
    )
    try:
        decision = (await _dry_run(ctx, {**body, "dry_run": True}))["decision"]
    except _Refused as refused:
        problem = answers.Problem(code=refused.code, reason=refused.reason)
        await in_thread(file, problem=problem)
        return answers.told(answers.AccessAnswer(status="filed", problem=problem, next_step=FILED))
    if decision["action"] == "allow":
        return answers.told(answers.AccessAnswer(status="permitted", next_step="you may run it: call query"))
    if decision["action"] == "deny":
        problem = answers.Problem(**answers.problem_of(decision))
        await in_thread(file, problem=problem)
        return answers.told(answers.AccessAnswer(status="filed", problem=problem, next_step=FILED))
    answer = await _asked(ctx, {**body, "parameters": parameters or [], "wait_s": 0}, max_rows=1)
    await in_thread(file, problem=answer.problem, statement_id=answer.statement_id)
    if answer.status != "pending":
        status: Literal["permitted", "denied"] = "permitted" if answer.status == "completed" else "denied"
        return answers.told(
            answers.AccessAnswer(status=status, problem=answer.problem, statement_id=answer.statement_id)
        )
    return answers.told(
        answers.AccessAnswer(
            status="pending", statement_id=answer.statement_id, review=answer.review, next_step=answers.WAIT
        )
    )


FILED = "filed for the administrators; until a rule changes, use problem.permitted_alternative"


async def wait_for_review(
    ctx: Context[Any, Any],
    statement_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$", description="of the pending answer")],
    wait_s: WaitS = 60,
    max_rows: Rows = 200,
) -> Annotated[CallToolResult, answers.StatementAnswer]:
    """Wait for the decision on a pending statement and return its answer. `pending` again: nobody has decided yet."""
    token = current_token()
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        kept = await in_thread(_kept, token.principal, statement_id)
        if kept is None:
            return _told(_problem("no-statement", "there is no such statement of yours"))
        left = deadline - asyncio.get_running_loop().time()
        if kept["status"] in FINAL or left <= 0:
            return _told(answers.kept_answer(kept, max_rows=max_rows))
        await in_thread(_hold_again, token, kept)
        await ctx.report_progress(wait_s - left, wait_s, "waiting for a reviewer")
        await asyncio.sleep(min(POLL_S, left))


TOOLS = (list_connections, list_schemas, describe_table, query, explain, request_access, wait_for_review)
# What changes nothing, for clients that ask people before tools that do (MCP, tool annotations).
READ_ONLY = frozenset({"list_connections", "list_schemas", "describe_table", "explain", "wait_for_review"})


class _Refused(Exception):
    """The data plane answered before any frame, or not at all."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


async def _asked(ctx: Context[Any, Any], body: dict[str, Any], *, max_rows: int) -> answers.StatementAnswer:
    frames = dataplane.stream_frames(
        token=current_token().token, body={**body, "protocol": PROTOCOL, "client_address": _address(ctx)}
    )
    try:
        async with aclosing(frames) as source:  # type: ignore[type-var]  # an async generator
            return await answers.answer_of(source, max_rows=max_rows)
    except dataplane.DataPlaneRefused as refused:
        return _problem(refused.code, refused.reason)
    except dataplane.DataPlaneUnavailable:
        return _problem("gateway-unavailable", "no gateway answers; try again")


async def _dry_run(ctx: Context[Any, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The `explained` frame. Raises _Refused."""
    frames = dataplane.stream_frames(
        token=current_token().token, body={**body, "protocol": PROTOCOL, "client_address": _address(ctx)}
    )
    try:
        async with aclosing(frames) as source:  # type: ignore[type-var]
            async for frame in source:
                return dict(frame)
    except dataplane.DataPlaneRefused as refused:
        raise _Refused(refused.code, refused.reason) from None
    except dataplane.DataPlaneUnavailable:
        pass
    raise _Refused("gateway-unavailable", "no gateway answers; try again")


async def _described(ctx: Context[Any, Any], body: dict[str, Any]) -> CallToolResult:
    try:
        found = await dataplane.describe(
            token=current_token().token, body={**body, "protocol": PROTOCOL}, client_address=_address(ctx)
        )
    except dataplane.DataPlaneRefused as refused:
        return _told(_problem(refused.code, refused.reason))
    except dataplane.DataPlaneUnavailable:
        return _told(_problem("gateway-unavailable", "no gateway answers; try again"))
    return answers.told(answers.Tables(**found))


def _kept(principal: Principal, statement_id: str) -> dict[str, Any] | None:
    """The statement as kept, for exactly who asked it and while the connection is still open to them."""
    row = find_own(statement_id=statement_id, principal=principal)
    if row is None or row.connection not in usable_connections(principal.groups):
        return None
    collect(statement_id=str(row.pk))
    return answer_now(row)


def _hold_again(token: GovernedToken, kept: dict[str, Any]) -> None:
    """Its holder may have ended with a restart; holding twice is prevented by the data plane."""
    if kept["status"] == RestStatement.Status.PENDING:
        dataplane.resume(token=token.token, statement_id=kept["id"], connection=kept["connection"], protocol=PROTOCOL)


def _file(
    *,
    principal: Principal,
    connection: str,
    reason: str,
    statement: str,
    problem: answers.Problem | None,
    statement_id: str | None = None,
) -> None:
    body = {
        "subject": principal.subject,
        "issuer": principal.issuer,
        "actor": principal.actor,
        "owner": principal.owner,
        "connection": connection,
        "statement": statement_id,
        "code": problem.code if problem else "",
        "rule": problem.rule if problem else "",
    }
    append_entries([Entry(kind="access.requested", body=body, sensitive={"reason": reason, "statement": statement})])


def _problem(code: str, reason: str) -> answers.StatementAnswer:
    return answers.StatementAnswer(status="denied", problem=answers.Problem(code=code, reason=reason))


def _told(answer: answers.StatementAnswer) -> CallToolResult:
    return answers.told(answer, is_error=answer.status not in {"completed", "pending"})


def _address(ctx: Context[Any, Any]) -> str:
    request = ctx.request_context.request
    client = getattr(request, "client", None)
    return "" if client is None else str(client.host)
