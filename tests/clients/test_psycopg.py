"""psycopg 3: text and binary, prepared, pipelines, server cursors, COPY, notices, cancellation."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import psycopg
import pytest

from tests.chaos.servers import wait_until
from tests.stack import Stack


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_psycopg_reads_types_as_they_are(ledger_dsn: str, binary: bool) -> None:
    with psycopg.connect(ledger_dsn) as connection:
        row = connection.cursor(binary=binary).execute("SELECT * FROM entries WHERE id = %s", [2]).fetchone()

    assert row == (2, "entry 2", Decimal("3.00"), dt.date(2024, 1, 3), ["a", "b"], {"n": 1})


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_psycopg_masked_row_keeps_python_types(stack: Stack, agent_dsn: str, binary: bool) -> None:
    query = "SELECT id, ssn, dob, zip, active, registered_at FROM patients WHERE id = %s"
    with stack.direct() as direct:
        stored = direct.execute(query, [5]).fetchone()
    with psycopg.connect(agent_dsn) as connection:
        row = connection.cursor(binary=binary).execute(query, [5]).fetchone()

    assert row is not None
    assert stored is not None
    assert (row[0], row[4], row[5]) == (stored[0], stored[4], stored[5])
    assert row[1] != stored[1]
    assert row[2] == stored[2].replace(month=1, day=1)
    assert row[3][:3] in {stored[3][:3], "000"}
    assert isinstance(row[2], dt.date)


def test_psycopg_prepared_statement_stays_masked_on_every_execution(stack: Stack, agent_dsn: str) -> None:
    with stack.direct() as direct:
        stored = {row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 8")}
    with psycopg.connect(agent_dsn, autocommit=True, prepare_threshold=0) as connection:
        seen = {connection.execute("SELECT ssn FROM patients WHERE id = %s", [n]).fetchone() for n in range(1, 9)}

    assert not {row[0] for row in seen if row} & stored


def test_psycopg_pipeline_keeps_order_and_survives_an_error(ledger_dsn: str) -> None:
    with psycopg.connect(ledger_dsn, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int * 2", [n]) for n in range(20)]
        assert [cursor.fetchone() for cursor in cursors] == [(n * 2,) for n in range(20)]
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1 / %s", [0])
        assert connection.execute("SELECT 7").fetchone() == (7,)


def test_psycopg_server_cursor_fetches_in_pieces(ledger_dsn: str) -> None:
    with psycopg.connect(ledger_dsn) as connection, connection.cursor(name="pieces") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT id FROM entries WHERE id <= 500 ORDER BY id")
        assert [row[0] for row in cursor] == list(range(1, 501))


def test_psycopg_server_cursor_is_masked_in_every_piece(stack: Stack, agent_dsn: str) -> None:
    with stack.direct() as direct:
        stored = {row[0] for row in direct.execute("SELECT ssn FROM patients WHERE id <= 30")}
    with psycopg.connect(agent_dsn) as connection, connection.cursor(name="pieces") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT ssn FROM patients WHERE id <= 30 ORDER BY id LIMIT 30")
        seen = [row[0] for row in cursor]

    assert len(seen) == 30
    assert not set(seen) & stored


def test_psycopg_copies_in_and_out(ledger_dsn: str) -> None:
    with psycopg.connect(ledger_dsn) as connection:
        with connection.cursor() as cursor, cursor.copy("COPY entries (id, label) FROM STDIN") as copy:
            for n in range(7000, 7100):
                copy.write_row((n, f"copied {n}"))
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY (SELECT id, label FROM entries WHERE id BETWEEN 7000 AND 7099 ORDER BY id) TO STDOUT"
            ) as copy,
        ):
            rows = list(copy.rows())
        connection.rollback()

    assert rows == [(str(n), f"copied {n}") for n in range(7000, 7100)]


def test_psycopg_executemany_and_returning(ledger_dsn: str) -> None:
    with psycopg.connect(ledger_dsn) as connection:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO entries (id, label) VALUES (%s, %s) RETURNING id",
                [(n, "many") for n in range(8000, 8010)],
                returning=True,
            )
            returned = []
            while True:
                returned.append(cursor.fetchone())
                if not cursor.nextset():
                    break
        connection.rollback()

    assert returned == [(n,) for n in range(8000, 8010)]


def test_psycopg_cancel_ends_its_own_statement_only(stack: Stack, ledger_dsn: str) -> None:
    import threading

    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%entries e' AND pid <> %s"

    def cancel_once_it_runs() -> None:
        with psycopg.connect(stack.superuser_dsn("ledger"), autocommit=True) as owner:
            pid = owner.info.backend_pid
            wait_until(
                lambda: owner.execute(running, [pid]).fetchone() == (1,), within_s=60, what="the statement to run"
            )
        connection.cancel()

    with psycopg.connect(ledger_dsn, autocommit=True) as connection:
        canceller = threading.Thread(target=cancel_once_it_runs)
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT count(*) FROM entries a, entries b, entries c, entries d, entries e")
        canceller.join()
        assert connection.execute("SELECT 3").fetchone() == (3,)


def test_psycopg_two_connections_do_not_mix(ledger_dsn: str) -> None:
    with psycopg.connect(ledger_dsn) as one, psycopg.connect(ledger_dsn) as two:
        one.execute("UPDATE entries SET label = 'mine' WHERE id = 3")
        seen = two.execute("SELECT label FROM entries WHERE id = 3").fetchone()
        one.rollback()

    assert seen == ("entry 3",)


def test_psycopg_denial_is_insufficient_privilege_with_hint(agent_dsn: str) -> None:
    with psycopg.connect(agent_dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as denied:
            connection.execute("CREATE TABLE nope (a int)")
        assert connection.execute("SELECT 1").fetchone() == (1,)

    assert denied.value.diag.message_hint
    assert denied.value.diag.message_detail
