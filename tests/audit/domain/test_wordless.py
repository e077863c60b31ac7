"""A statement nothing is said of by which it could be found must not stop the log."""

from __future__ import annotations

import pytest

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.models import StatementRecord
from tests.audit.factories import denied, opened

pytestmark = pytest.mark.django_db


def test_second_entry_of_a_statement_without_words() -> None:
    body: dict[str, Json] = {"connection": "clinic", "kind": "select"}
    append_entries([opened()])

    for kind in ("statement.held", "statement.authorised"):
        append_entries([Entry(kind, body, "s1", "w1")])
    wordless = StatementRecord.objects.get(id="w1").touched
    append_entries([denied("w1")])

    assert wordless == []
    assert StatementRecord.objects.get(id="w1").touched == ["code:policy-denied", "rule:no-ddl"]
