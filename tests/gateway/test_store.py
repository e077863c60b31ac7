from __future__ import annotations

import pytest

from gateway.models import Connection
from gateway.store import load_snapshot


@pytest.mark.django_db(transaction=True)
def test_phi_connections_that_scan_text_get_the_free_text_rule() -> None:
    for name, phi, scan_text in (("clinic", True, True), ("quiet", True, False), ("public", False, True)):
        Connection.objects.create(
            name=name, kind="postgres", host="127.0.0.1", port=5432, database="d", phi=phi, scan_text=scan_text
        )

    snapshot = load_snapshot()

    implicit = [rule for rule in snapshot.masking_rules if rule.covers_free_text]
    assert [rule.connections for rule in implicit] == [("clinic",)]
    assert [rule.name for rule in implicit] == ["free-text"]
