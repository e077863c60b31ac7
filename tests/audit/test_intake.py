"""A journal is taken into the log a transaction a batch: every entry once, whatever was begun before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from django.db import connection

from audit.domain.append import append_entries
from audit.domain.chain import prepare
from audit.domain.integrity import check_chain
from audit.domain.journaled import integrated, pack
from audit.domain.keys import log_keys
from audit.domain.records_check import check_records
from audit.domain.sealing import evidence_sealer
from audit.models import LogEntry, StatementRecord
from audit.process_journal import open_journal
from audit.sequencer_process import Intake
from tests.audit.test_bulk import of_statement, opened
from tests.audit.test_writer import kept_plans
from tests.audit.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("transaction", [7, 100, 2_000])
def test_journal_is_taken_in_whole_in_batches_of_any_size(tmp_path: Path, transaction: int) -> None:
    entries = [entry for number in range(200) for entry in of_statement(number)]
    journal = open_journal(tmp_path)

    def take_in() -> list[str]:
        append_entries(opened())
        for entry in entries:
            journal.append(pack(prepare(entry, gateway="g1", sealer=evidence_sealer())))
        for _ in range(2):  # another that begins anew finds all of it there
            taken = list(Intake(journal.directory).take_in(journal.end, at_least=3, transaction=transaction))
        assert taken[-1].place == journal.end == integrated(journal.journal_id)
        return kept_plans()

    kept = asyncio.run(in_thread(take_in))  # a connection of its own, as the sequencer has
    journal.close(taken_in=True)

    found = LogEntry.objects.filter(seq__gt=3).order_by("seq").values_list("statement_id", "kind")
    assert list(found) == [(entry.statement_id, entry.kind) for entry in entries]
    assert StatementRecord.objects.count() == 175  # of every eighth only the end is known
    assert (check_records(), check_chain(log_keys())) == ([], [])
    assert any(text.startswith("INSERT INTO audit_loghead") for text in kept)
    connection.close()
