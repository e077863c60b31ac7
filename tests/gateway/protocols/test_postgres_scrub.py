"""What may stay of an error is decided by when it came and what it is built of."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.scrub import scrub_error, scrub_notice

SSN = "078-05-1120"


def error(sqlstate: str, message: str, **more: str) -> dict[str, str]:
    return {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": message, **more}


@pytest.mark.parametrize(
    ("fields", "statement"),
    [
        (error("22P02", f'invalid input syntax for type integer: "{SSN}"', P="3"), "select ssn::int from p"),
        (error("42P01", f'relation "{SSN}" does not exist'), "select ssn::regclass from p"),
        (error("23505", "duplicate key", D=f"Key (ssn)=({SSN}) already exists."), "insert into p select 1"),
        (error("25001", f"a {SSN} from RAISE", W="PL/pgSQL function f() line 1 at RAISE"), "select f()"),
        (error("P0001", SSN), "select f()"),
        (error("99999", SSN, H=SSN, q=SSN), "select f()"),
        (error("34000", f'cursor "{SSN}" does not exist'), "select cursor_to_xml(ssn::refcursor) from p"),
    ],
)
def test_values_never_survive(fields: dict[str, str], statement: str) -> None:
    kept = scrub_error(fields, statement=statement, parsing=False)

    assert SSN not in str(kept)
    assert (kept["C"], kept["S"]) == (fields["C"], fields["S"])


def test_what_the_statement_itself_says_stays() -> None:
    at_parse = error("42P01", 'relation "patiens" does not exist', P="15")
    at_execution = error("42P07", 'relation "people" already exists')

    assert scrub_error(at_parse, statement="select * from patiens", parsing=True) == at_parse
    assert scrub_error(at_execution, statement="create table People (id int)", parsing=False) == at_execution


def test_types_are_named_without_their_values() -> None:
    fields = error("22P02", f'invalid input syntax for type integer: "{SSN}"')

    assert scrub_error(fields, statement="x", parsing=False)["M"] == "invalid input syntax for type integer"


def test_raise_notice_is_withheld_and_known_notices_stay() -> None:
    raised = error("00000", SSN)
    known = error("42P07", 'relation "people" already exists, skipping')

    assert SSN not in str(scrub_notice(raised, statement="select f()"))
    assert scrub_notice(known, statement="create table if not exists people ()") == known
