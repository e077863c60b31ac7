"""Statements asked over REST, kept for a while so that a held one's answer can be fetched when it has run.

The data plane writes these rows while it holds or runs a statement; the control plane reads them. What was asked and
what came back are sealed with the evidence keys and erased after `KEEP_RESULT_S`: the recording is the evidence, this
is a letter box. An answer to a held statement is handed out once more by asking the same thing again (`find_resumable`,
`collect`), which is how "a later call with the same statement uses the grant, once" holds without running it twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from approvals.domain.request import Principal
from audit.domain.sealing import seal, unseal
from gateway.models import RestStatement

KEEP_RESULT_S = 3600
KEEP_ROW_S = 24 * 3600
# A running or pending row is given up when nobody has touched it for this long: longer than any review may take.
KEEP_OPEN_S = 8 * 24 * 3600
FINAL = frozenset(
    {
        RestStatement.Status.COMPLETED,
        RestStatement.Status.DENIED,
        RestStatement.Status.EXPIRED,
        RestStatement.Status.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class ShownBy:
    """What rows were shown by: the digest of their connection's rules, and an emergency access or an approval."""

    rules: str
    emergency: str = ""
    grant: str = ""


OTHER_RULES = {
    "code": "rules-changed",
    "reason": "the rules changed since it ran, its approval was revoked, or its emergency access is over: its rows are "
    "not shown again",
}


class StatementProblem(RuntimeError):
    """There is no such statement, or it cannot move to the asked state."""


def open_statement(
    *,
    statement_id: str,
    session_id: str,
    principal: Principal,
    connection: str,
    request: dict[str, Any],
    binding: str,
    holder: str = "",
) -> None:
    """Keep a statement that starts now. `request` is what was asked (statement, parameters); it is sealed."""
    RestStatement.objects.create(
        id=statement_id,
        session_id=session_id,
        subject=principal.subject,
        issuer=principal.issuer,
        asker={"kind": principal.kind, "actor": principal.actor, "groups": sorted(principal.groups)},
        connection=connection,
        status=RestStatement.Status.RUNNING,
        binding=binding,
        holder=holder,
        sealed_request=_seal(request, statement_id, "request"),
        expires_at=timezone.now() + timedelta(seconds=KEEP_OPEN_S),
    )


def mark_pending(*, statement_id: str, review: dict[str, Any], holder: str | None = None) -> None:
    """The statement waits for `review` ({"id", "url", "expires_at"})."""
    changes: dict[str, Any] = {"status": RestStatement.Status.PENDING, "was_held": True, "review": review}
    if holder is not None:
        changes["holder"] = holder
    open_rows = RestStatement.objects.filter(pk=statement_id).exclude(status__in=FINAL)
    if open_rows.update(**changes) != 1:
        raise StatementProblem("the statement is unknown or already finished")


def mark_running(*, statement_id: str) -> None:
    """The statement waited, was approved and runs now: nobody takes it over any more."""
    pending = RestStatement.objects.filter(pk=statement_id, status=RestStatement.Status.PENDING)
    if pending.update(status=RestStatement.Status.RUNNING) != 1:
        raise StatementProblem("the statement does not wait any more")


def give_up(*, statement_id: str, from_holder: str) -> None:
    """The process that ran it has ended, and nobody knows how far it came: it failed, and is not run again."""
    running = RestStatement.objects.filter(pk=statement_id, holder=from_holder, status=RestStatement.Status.RUNNING)
    reason = "the gateway that ran it ended; look whether it took effect before you ask again"
    now = timezone.now()
    running.update(
        status=RestStatement.Status.FAILED,
        problem={"code": "gateway-ended", "reason": reason},
        finished_at=now,
        expires_at=now + timedelta(seconds=KEEP_RESULT_S),
    )


def finish_statement(
    *,
    statement_id: str,
    status: str,
    result: dict[str, Any] | None,
    problem: dict[str, Any] | None,
    statement: str,
    modified_from: str | None,
    shown_by: ShownBy,
) -> None:
    """The statement ended. `statement` is the text that ran; `modified_from` the asked one, where they differ."""
    if status not in FINAL:
        raise StatementProblem(f"a statement cannot end as {status!r}")
    letter = {"statement": statement, "modified_from": modified_from, "result": result}
    letter |= asdict(shown_by)
    now = timezone.now()
    changed = RestStatement.objects.filter(pk=statement_id).exclude(status__in=FINAL)
    updated = changed.update(
        status=status,
        problem=problem,
        row_count=None if result is None else result.get("row_count"),
        sealed_result=_seal(letter, statement_id, "result"),
        finished_at=now,
        expires_at=now + timedelta(seconds=KEEP_RESULT_S),
    )
    if updated != 1:
        raise StatementProblem("the statement is unknown or already finished")


def take_over(*, statement_id: str, from_holder: str, holder: str) -> bool:
    """Make `holder` the one that holds a pending statement, if `from_holder` still is; one contender wins."""
    pending = RestStatement.objects.filter(pk=statement_id, holder=from_holder, status=RestStatement.Status.PENDING)
    return pending.update(holder=holder) == 1


def find_own(*, statement_id: str, principal: Principal) -> RestStatement | None:
    """The statement, for exactly whoever asked it and may still see what it was answered with."""
    return _own(principal).filter(pk=statement_id).first()


def find_resumable(*, binding: str, principal: Principal) -> str | None:
    """The held statement that asking this again should pick up: not done yet, or done and not yet collected."""
    rows = _own(principal).filter(binding=binding, was_held=True, collected_at=None, expires_at__gt=timezone.now())
    unfinished = [RestStatement.Status.PENDING, RestStatement.Status.RUNNING]
    resumable = rows.filter(status__in=[*unfinished, RestStatement.Status.COMPLETED])
    found = resumable.order_by("-created_at").values_list("pk", flat=True).first()
    return None if found is None else str(found)


def collect(*, statement_id: str) -> dict[str, Any] | None:
    """The completed answer, for the first caller only; None when it has not completed or was collected."""
    with transaction.atomic():
        row = RestStatement.objects.select_for_update().filter(pk=statement_id, collected_at=None).first()
        if row is None or row.status != RestStatement.Status.COMPLETED:
            return None
        row.collected_at = timezone.now()
        row.save(update_fields=["collected_at"])
    return answer_of(row)


def read_state(*, statement_id: str) -> dict[str, Any]:
    row = _row(statement_id)
    return {
        "session_id": row.session_id,
        "status": row.status,
        "review": row.review,
        "problem": row.problem,
        "holder": row.holder,
    }


def read_request(*, statement_id: str) -> dict[str, Any]:
    """What was asked: {"connection", "statement", "parameters"}. For the data plane that takes a hold over."""
    row = _row(statement_id)
    asked = _unseal(bytes(row.sealed_request), statement_id, "request")
    return {"connection": row.connection, "parameters": [], **asked}


def answer_of(row: RestStatement, *, stands: Callable[[ShownBy], bool] = lambda _: True) -> dict[str, Any]:
    """The REST answer of a kept statement, as `POST …/statements` would have given it.

    `stands` is asked about rows, where there are any: without its word they stay where they are.
    """
    answer: dict[str, Any] = {
        "id": str(row.pk),
        "session_id": row.session_id,
        "status": "pending" if row.status == RestStatement.Status.RUNNING else row.status,
        "connection": row.connection,
    }
    if row.review:
        answer["review"] = row.review
    if row.problem:
        answer["problem"] = row.problem
    statement_id = str(row.pk)
    if row.sealed_result:
        letter = _unseal(bytes(row.sealed_result), statement_id, "result")
        answer |= {"statement": letter["statement"], "modified_from": letter["modified_from"]}
        result = letter["result"] or {}
        shown_by = ShownBy(**{field.name: letter.get(field.name, "") for field in fields(ShownBy)})
        if result.get("rows") and not stands(shown_by):
            result = {name: value for name, value in result.items() if name not in ("columns", "rows")}
            answer["problem"] = OTHER_RULES
        answer |= result
    elif row.sealed_request:
        answer |= {"statement": _unseal(bytes(row.sealed_request), statement_id, "request").get("statement", "")}
    return answer


def forget_old_statements() -> int:
    """Erase texts and results past their time, then the rows a day later. Returns how many letters were erased."""
    now = timezone.now()
    overdue = RestStatement.objects.filter(expires_at__lt=now)
    erased = overdue.exclude(sealed_result=b"", sealed_request=b"").update(sealed_result=b"", sealed_request=b"")
    overdue.exclude(status__in=FINAL).update(status=RestStatement.Status.EXPIRED, finished_at=now)
    RestStatement.objects.filter(expires_at__lt=now - timedelta(seconds=KEEP_ROW_S)).delete()
    return erased


def _own(principal: Principal) -> QuerySet[RestStatement]:
    """Not by name alone: an agent acting for a person bears the person's name, and must not get the person's clear
    values; and whoever lost a group since (an exemption, say) must not get what that group was shown."""
    return RestStatement.objects.filter(
        subject=principal.subject,
        issuer=principal.issuer,
        asker__kind=principal.kind,
        asker__actor=principal.actor,
        asker__groups__contained_by=sorted(principal.groups),
    )


def _row(statement_id: str) -> RestStatement:
    row = RestStatement.objects.filter(pk=statement_id).first()
    if row is None:
        raise StatementProblem("there is no such statement")
    return row


def _seal(value: dict[str, Any], statement_id: str, part: str) -> bytes:
    return seal(json.dumps(value, separators=(",", ":")).encode(), context=f"rest-statement:{statement_id}:{part}")


def _unseal(sealed: bytes, statement_id: str, part: str) -> dict[str, Any]:
    opened = json.loads(unseal(sealed, context=f"rest-statement:{statement_id}:{part}"))
    return dict(opened)
