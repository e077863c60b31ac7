"""The smallest permitted alternative as a statement: one that was decided, now, for this principal, to be allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from analysis.alternative import alternatives
from approvals.domain.conditions import Condition
from approvals.domain.decide import covers
from approvals.domain.request import Allow
from gateway.session.assessment import Assessment, assess
from gateway.session.context import SessionContext, StatementRequest, new_id
from gateway.session.services import Services

MAX_TRIED = 4
_DIALECTS = {"postgres": "postgres", "bigquery": "bigquery", "mysql": "mysql"}


async def permitted_statement(
    session: SessionContext,
    request: StatementRequest,
    assessment: Assessment,
    assess: Callable[[StatementRequest], Awaitable[Assessment]],
) -> str:
    """A text that would be allowed in place of `request`, empty when none of the proposals would.

    With bound values there is none: which of them a smaller text still needs is the client's to say. The text holds
    the statement's own literals, so it is for the client alone, never for the record or a row in clear.
    """
    if request.parameters or request.parameter_types:
        return ""
    proposals = alternatives(
        request.text,
        dialect=_DIALECTS.get(session.connection.kind, "postgres"),
        protected={column.column for column in assessment.access.touch.columns_read},
        most_rows=min(_row_limits(assessment), default=None),
    )
    for tried, text in enumerate(proposals):
        if tried >= MAX_TRIED:
            break
        try:
            found = await assess(replace(request, text=text, governed_as=None, statement_id=new_id()))
        except Exception:  # noqa: S112  a proposal that cannot be assessed is none; nothing was decided by it
            continue
        if type(found.decision) is Allow:
            return text
    return ""


def _row_limits(assessment: Assessment) -> Iterator[int]:
    here = assessment.connection.name
    for policy in assessment.snapshot.policies:
        if covers(policy.connections, here):
            yield from _rows_over(policy.when)


def _rows_over(when: Condition) -> Iterator[int]:
    if when.rows_over is not None:
        yield when.rows_over
    for child in (when.all_of or ()) + (when.any_of or ()):
        yield from _rows_over(child)


async def instead(
    services: Services, session: SessionContext, request: StatementRequest, assessment: Assessment | None
) -> str:
    """A statement that would be allowed in place of this one, where rules (not the database) stand against it."""
    if assessment is None or isinstance(assessment.decision, Allow):
        return ""
    return await permitted_statement(session, request, assessment, lambda other: assess(services, session, other))
