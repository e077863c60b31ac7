"""`/metrics`: for who holds its token, without names of people or agents, and cheap."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import StatementRecord

TOKEN = "metrics-token"
MAX_QUERIES = 14


def scrape(token: str = TOKEN) -> Any:
    return Client().get("/metrics", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.django_db
def test_page_exists_with_a_token_only_and_for_it_only(settings: Any):
    settings.HOOPWEB_METRICS_TOKEN = ""
    assert scrape("").status_code == 404

    settings.HOOPWEB_METRICS_TOKEN = TOKEN

    assert (scrape().status_code, scrape("wrong").status_code) == (200, 401)
    assert Client().get("/metrics").status_code == 401


@pytest.mark.django_db
def test_counts_by_connection_and_names_nobody(settings: Any):
    settings.HOOPWEB_METRICS_TOKEN = TOKEN
    for number in range(3):
        StatementRecord.objects.create(
            id=f"s{number}",
            session_id="canary-session",
            at=timezone.now(),
            subject="canary-agent",
            owner="canary-person",
            connection="clinic",
            rule="canary-rule",
            status="denied",
            first_seq=number,
            last_seq=number,
        )

    with CaptureQueriesContext(
        connection,
    ) as queries:
        text = scrape().content.decode()

    assert 'hoopweb_statements_recent{connection="clinic",status="denied"} 3.0' in text
    assert re.search(r"^hoopweb_log_entries_total \d", text, re.M)
    assert "canary" not in text
    assert len(queries) <= MAX_QUERIES
