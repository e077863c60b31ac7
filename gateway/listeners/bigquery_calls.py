"""A BigQuery request whose caller, endpoint and connection are known, and what handlers read of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from analysis.statement import Operation
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.bigquery_job import key_of
from gateway.listeners.bigquery_uploads import Owner
from gateway.listeners.data_api import Caller, Front, may
from gateway.protocols.bigquery.endpoints import Endpoint
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import DEFAULT_WAIT_S, JOB_ID, MAX_WAIT_S, wants_int64_timestamps
from gateway.protocols.bigquery.work import DATASET_NAME, TABLE_NAME
from gateway.session import entries

_NAMES = {"dataset": DATASET_NAME, "table": TABLE_NAME, "job": JOB_ID}


@dataclass(frozen=True, slots=True)
class Call:
    request: Request
    caller: Caller
    spec: ConnectionSpec
    endpoint: Endpoint
    parameters: Mapping[str, str]

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def owner(self) -> Owner:
        """Whose upload it is: the same that a job is told by."""
        return key_of(self.caller.principal, self.spec)

    def number(self, name: str) -> int | None:
        """A query parameter that is a number. Page tokens are ours, and numbers too. Raises BigQueryError."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise BigQueryError("invalid", f"{name} is malformed")
        return int(text)

    @property
    def offset(self) -> int:
        return self.number("pageToken") or self.number("startIndex") or 0

    @property
    def wait_s(self) -> float:
        wait_ms = self.number("timeoutMs")
        return DEFAULT_WAIT_S if wait_ms is None else min(wait_ms / 1000, MAX_WAIT_S)

    @property
    def int64_timestamps(self) -> bool:
        return wants_int64_timestamps(
            {name.removeprefix("formatOptions."): value for name, value in self.query.items()}
        )


def refuse_odd_names(parameters: Mapping[str, str]) -> None:
    """Raises BigQueryError for a name in the path no dataset, table or job can have.

    An escape of an escape, a decorator ($20260101) or a separator would be read anew by whoever hears it next.
    """
    for kind, name in parameters.items():
        if kind in _NAMES and not _NAMES[kind].fullmatch(name):
            raise BigQueryError("invalid", f"the {kind}'s name is malformed")


Answer = dict[str, Any] | Response
Handler = Callable[[Call], Awaitable[Answer]]


@contextlib.asynccontextmanager
async def recorded(front: Front, call: Call) -> AsyncIterator[None]:
    """What is refused while a request is read is on the record."""
    try:
        yield
    except BigQueryError as refused:
        session = call.caller.session(call.spec)
        await front.services.record.append(entries.request_refused(session, call.endpoint.name, refused.reason))
        raise


def must_read(front: Front, call: Call) -> None:
    """Raises BigQueryError for a caller no access rule lets read here."""
    if not may(front.snapshot(), call.caller.principal, call.spec.name, Operation.READ):
        raise BigQueryError("accessDenied", "no access rule lets you read here")
