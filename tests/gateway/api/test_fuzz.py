"""The whole REST API against its own OpenAPI document: whatever is sent, no 5xx, and every answer as described."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.utils import timezone
from hypothesis.strategies import booleans
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from audit.models import SessionRecord
from gateway.domain import tokens
from gateway.domain.tokens import issue_agent_token, issue_person_token
from tests.approvals.factories import held
from tests.gateway.api.conftest import Cast, DataPlane
from tests.gateway.api.test_statements import ACCEPTED, COMPLETED, keep

SEED = int(os.environ.get("HOOPWEB_FUZZ_SEED", "7"))
EXAMPLES = 200 if os.environ.get("HOOPWEB_SOAK") else 6
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def api_schema(cast: Cast, data_plane: DataPlane) -> Iterator[Any]:
    """The application itself, in this process, on this test's transaction: so no request may end its connection."""
    data_plane.frames = [ACCEPTED, COMPLETED]
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/v1/schema/?format=json", get_wsgi_application())
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.parametrize("who", ["admin", "agent"])
def test_api_answers_as_it_says(who: str, cast: Cast, api_schema: Any) -> None:
    token = issue_agent_token(cast.agent) if who == "agent" else issue_person_token(cast.admin)
    headers = {"Authorization": f"Bearer {token}"}
    known = what_is_there(cast)
    failures = [failure for operation in operations(api_schema) for failure in broken(operation, headers, known)]

    assert not failures, "\n\n".join(failures)


def operations(schema: Any) -> list[Any]:
    return [found.ok() for found in schema.get_all_operations()]


def what_is_there(cast: Cast) -> dict[str, str]:
    """Values of path parameters that exist, by name: most of what is generated would only ever find a 404."""
    cast.admin.groups.add(*cast.reviewer.groups.all())
    review = held()
    session = SessionRecord.objects.create(
        id="s1",
        opened_at=timezone.now(),
        subject="demo-agent",
        issuer=tokens.issuer_url(),
        connection="clinic",
        first_seq=1,
        last_seq=1,
    )
    return {"name": "clinic", "review_id": str(review.pk), "statement_id": keep(cast), "id": session.pk, "pk": "s1"}


def broken(operation: Any, headers: dict[str, str], known: dict[str, str]) -> list[str]:
    """What is wrong with one operation's answers, in schemathesis' words; the first counterexample is enough."""

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(), there=booleans())
    def answers_as_described(case: Any, there: bool) -> None:
        for name in case.path_parameters if there else ():
            case.path_parameters[name] = known.get(name, case.path_parameters[name])
        case.call_and_validate(headers=headers, checks=CHECKS)

    try:
        answers_as_described()
    except (AssertionError, BaseExceptionGroup) as error:
        return [f"{operation.method} {operation.path}: {spelled(error)}"]
    return []


def spelled(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " | ".join(map(spelled, error.exceptions))
    return str(error)
