"""Errors and notices on connections with PHI: the code stays, the value goes. Each shown to leak directly first."""

from __future__ import annotations

import psycopg
import pytest

from tests.gateway.listeners.harness import Gateway, direct_dsn
from tests.gateway.listeners.raw import RawClient, errors, query

CANARY = "078-05-0001"

LEAKS = [
    ("select ssn::int from people where id = 1", "22P02"),
    ("select ssn::regclass from people where id = 1", "42P01"),
    ("select currval(ssn) from people where id = 1", "42P01"),
    ("select pg_read_file(ssn) from people where id = 1", "58P01"),
    ("select ('[' || ssn || ']')::json from people where id = 1", "22P02"),
    ("select ssn::inet from people where id = 1", "22P02"),
    ("insert into people select id, ssn, ssn from people where id = 1", "23505"),
    ("update people set score = (select ssn from people where id = 1)::numeric where id = 2", "22P02"),
    ("select set_config(ssn, '1', false) from people where id = 1", "42704"),
]


@pytest.mark.parametrize(("statement", "sqlstate"), LEAKS)
async def test_errors_keep_their_code_and_lose_their_values(gateway: Gateway, statement: str, sqlstate: str) -> None:
    with psycopg.connect(direct_dsn()) as direct, pytest.raises(psycopg.Error) as leaked:
        direct.execute(statement)
    raw = await RawClient.connect(gateway)
    got = await raw.ask(query(statement))
    raw.close()

    fields = errors(got)[0]
    direct_text = f"{leaked.value} {leaked.value.diag.message_detail}"
    assert any(value in direct_text for value in (CANARY, "(id)=(1)", "05-0001", '"078'))
    assert fields["C"] == leaked.value.sqlstate == sqlstate
    assert CANARY not in str(got)
    assert "(1)" not in str(fields)
    assert "078" not in str(fields)
    assert set(fields) <= {"S", "V", "C", "M", "F", "L", "R", "s", "t", "c", "d", "n"}


async def test_raised_notices_lose_their_text(gateway: Gateway) -> None:
    with psycopg.connect(direct_dsn(), autocommit=True) as direct:
        heard: list[str] = []
        direct.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
        direct.execute(
            "create or replace function whisper() returns int language plpgsql as "
            "$$ begin raise notice '%', (select ssn from people where id = 1); return 1; end $$"
        )
        direct.execute("select whisper()")
        assert heard == [CANARY]
    raw = await RawClient.connect(gateway)
    got = await raw.ask(query("select whisper()"))
    raw.close()

    assert "N" in [kind for kind, _ in got]
    assert CANARY not in str(got)


async def test_notification_payloads_are_blanked(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    listened = await raw.ask(query(f"listen words; notify words, '{CANARY}'; select 1"))
    raw.close()

    assert [body[4:] for kind, body in listened if kind == "A"] == [b"words\0\0"]


async def test_parse_errors_keep_message_and_position(gateway: Gateway) -> None:
    raw = await RawClient.connect(gateway)
    got = await raw.ask(query("select 1; select nothing_like_it from people"))
    raw.close()

    fields = errors(got)[0]
    assert fields["C"] == "42703"
    assert fields["M"] == 'column "nothing_like_it" does not exist'
    assert fields["P"] == "18"  # counted in the whole query, as the client sent it


async def test_reported_settings_never_carry_values(gateway: Gateway) -> None:
    launder = "select set_config('application_name', ssn, false) as done from people where id = 1"
    with psycopg.connect(direct_dsn()) as direct:
        direct.execute(launder)
        assert direct.info.parameter_status("application_name") == CANARY
    raw = await RawClient.connect(gateway, application_name="before")
    got = await raw.ask(query(launder))
    own = await raw.ask(query("set application_name to 'my own words'"))
    raw.close()

    assert CANARY not in str([body for kind, body in got if kind == "S"])
    assert b"my own words" in b"".join(body for kind, body in own if kind == "S")
