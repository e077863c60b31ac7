from __future__ import annotations

import pytest

from masking.domain.discovery import Proposal, class_of_name, propose, propose_column


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("ssn", "ssn"),
        ("PatientEmail", "email"),
        ("home_phone", "phone"),
        ("DOB", "date"),
        ("admit_dt", "date"),
        ("fname", "name"),
        ("last_name", "name"),
        ("mothersname", "name"),
        ("street_address", "location"),
        ("zip", "zip"),
        ("pubpid", "mrn"),
        ("member_id", "health_plan"),
        ("note", "note"),
        ("status", None),
        ("code", None),
        ("quantity", None),
        ("usage", None),
    ],
)
def test_class_of_name(name: str, cls: str | None) -> None:
    assert class_of_name(name) == cls


def test_a_name_is_enough_and_bad_values_do_not_veto_it() -> None:
    proposal = propose_column("public.people.ssn", ["n/a", "unknown"])

    assert proposal == Proposal("public.people.ssn", "ssn", 0.7, "column name")


def test_values_alone_propose_and_say_how_many() -> None:
    proposal = propose_column("public.t.c7", ["123-45-6789", "234-56-7891", None, "none"])

    assert proposal is not None
    assert (proposal.data_class, proposal.evidence) == ("ssn", "2 of 3 sampled values")


def test_proposals_come_surest_first_and_never_quote_a_value() -> None:
    proposals = propose(
        {"s.t.c1": ["call 555-123-4567"], "s.t.ssn": ["123-45-6789"], "s.t.color": ["green"], "s.t.email": []}
    )

    assert [proposal.column for proposal in proposals] == ["s.t.ssn", "s.t.c1", "s.t.email"]
    assert not any(
        char.isdigit() and "555" in proposal.evidence for proposal in proposals for char in proposal.evidence
    )
