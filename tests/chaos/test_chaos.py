"""Something essential fails in the middle of something. Nothing unrecorded runs; the client gets a clear error."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.bypass.wire import Answer, ConnectionLost, Target, Wire, message
from tests.chaos.conftest import wait_served
from tests.chaos.load import rest_of
from tests.chaos.servers import Upstream, frozen, wait_until
from tests.stack import Stack

LONG_READ = "SELECT p.ssn, a.n FROM patients p, generate_series(1, 20000) a(n)"
BUSY = "SELECT count(*) FROM patients a, patients b, patients c"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def control(fragile: Stack, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(str(fragile.demo["control_dsn"]), autocommit=True) as connection:
        return connection.execute(sql.encode(), parameters).fetchall()


def newest_seq(fragile: Stack) -> int:
    ((seq,),) = control(fragile, "SELECT coalesce(max(seq), 0) FROM audit_logentry")
    return int(str(seq))


def entries_after(fragile: Stack, seq: int, kind: str) -> list[bytes]:
    rows = control(fragile, "SELECT canonical FROM audit_logentry WHERE seq > %s AND kind = %s ORDER BY seq", seq, kind)
    return [bytes(row[0]) for row in rows]  # type: ignore[call-overload]


def test_upstream_gone_mid_result_ends_in_an_error_and_a_failed_record(
    fragile: Stack, upstream: Upstream, far: Target
) -> None:
    before = newest_seq(fragile)
    with Wire(far) as wire:
        wire.socket.sendall(message(b"Q", LONG_READ.encode() + b"\0"))
        kinds = [wire.read_message()[0] for _ in range(1000)]
        upstream.kill()
        ending = rest_of(wire)
    upstream.start()

    assert kinds[0] == b"T"
    assert ending.errors, "the connection ended without a word"
    assert ending.sqlstate[:2] in {"08", "57"}
    wait_until(
        lambda: any(b'"status":"failed"' in entry for entry in entries_after(fragile, before, "statement.completed")),
        within_s=60,
        what="the end's record",
    )
    wait_served(fragile, far)
    with Wire(far) as again:
        assert again.simple("SELECT count(*) FROM patients").rows == [(b"2000",)]


def test_upstream_that_is_away_is_named_at_the_door(upstream: Upstream, far: Target) -> None:
    upstream.kill()
    try:
        told = refused_sentence(far)
    finally:
        upstream.start()

    assert told
    assert "far-synthetic" not in told
    assert "Traceback" not in told


def refused_sentence(target: Target) -> str:
    """What a client hears that cannot be connected, at start-up or at its first statement; nothing if it is served."""
    try:
        with Wire(target) as wire:
            return "".join(error["M"] for error in wire.simple("SELECT 1").errors)
    except ConnectionLost as lost:
        return str(lost)


def first_refusal(target: Target) -> str:
    """What the first client hears that is not served any more."""
    heard: list[str] = []

    def refused() -> bool:
        heard.append(refused_sentence(target))
        return bool(heard[-1])

    wait_until(refused, within_s=60, what="a refusal")
    return heard[-1]


def test_control_database_frozen_lets_nothing_run(fragile: Stack, upstream: Upstream, far: Target) -> None:
    label = uuid.uuid4().hex
    with Wire(far, timeout_s=90) as wire:
        assert wire.simple(f"INSERT INTO marks VALUES ('{label}-before')").tags == ["INSERT 0 1"]
        with frozen(fragile.pids()["postgres"]):
            answer = wire.simple(f"INSERT INTO marks VALUES ('{label}-during')")

        assert answer.errors, answer.tags
        assert answer.tags == []
    assert upstream.query(f"SELECT label FROM marks WHERE label LIKE '{label}%'") == [(f"{label}-before",)]
    wait_served(fragile, far)
    with Wire(far) as again:
        assert again.simple(f"INSERT INTO marks VALUES ('{label}-after')").tags == ["INSERT 0 1"]


def test_control_database_crashed_lets_nothing_run_and_recovers(
    fragile: Stack, upstream: Upstream, far: Target
) -> None:
    label = uuid.uuid4().hex
    with Wire(far, timeout_s=90) as wire:
        wire.simple("SELECT 1")
        os.kill(fragile.pids()["postgres"], signal.SIGQUIT)
        answer = wire.simple(f"INSERT INTO marks VALUES ('{label}')")

    stored = upstream.query(f"SELECT label FROM marks WHERE label = '{label}'")
    wait_served(fragile, far)
    authorised = control(fragile, "SELECT count(*) FROM audit_logentry WHERE kind = 'statement.authorised'")
    assert authorised
    # Either it was refused, or the server was back quickly enough to record it first: never unrecorded.
    assert bool(stored) == (answer.tags == ["INSERT 0 1"])
    assert answer.errors or answer.tags or answer.lost


@contextmanager
def log_refuses_writes(fragile: Stack) -> Iterator[None]:
    """A trigger that fails every append: a full disk, a lost table, a permission taken away."""
    with psycopg.connect(fragile.superuser_dsn("hoopweb"), autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no space left'; END $$"
        )
        owner.execute("CREATE TRIGGER chaos BEFORE INSERT ON audit_logentry EXECUTE FUNCTION chaos()")
        try:
            yield
        finally:
            owner.execute("DROP TRIGGER chaos ON audit_logentry")
            owner.execute("DROP FUNCTION chaos")


def test_log_that_cannot_be_written_stops_every_statement(fragile: Stack, upstream: Upstream, far: Target) -> None:
    label = uuid.uuid4().hex
    with Wire(far, timeout_s=60) as wire:
        with log_refuses_writes(fragile):
            write = wire.simple(f"INSERT INTO marks VALUES ('{label}')")
            read = wire.simple("SELECT ssn FROM patients LIMIT 1")

        assert write.errors
        assert read.errors
        assert "log" in write.errors[0]["M"]
        assert read.rows == []
        assert upstream.query(f"SELECT label FROM marks WHERE label = '{label}'") == []
        wait_until(lambda: wire.simple("SELECT 1").rows == [(b"1",)], within_s=60, what="the log to be written again")


def test_log_failing_after_execution_stops_the_next_statement(fragile: Stack, far: Target) -> None:
    """What ran is written again until it is durable; until then nothing new starts."""
    before = newest_seq(fragile)
    with Wire(far, timeout_s=90) as wire:
        with log_refuses_writes_once_running(fragile, wire) as answer:
            refused = wire.simple("SELECT 2")
        assert answer.sqlstate == "57014"
        assert refused.errors
        wait_until(lambda: wire.simple("SELECT 3").rows == [(b"3",)], within_s=60, what="the log to be written again")

    completed = entries_after(fragile, before, "statement.completed")
    assert any(b'"status":"cancelled"' in entry for entry in completed), completed


@contextmanager
def log_refuses_writes_once_running(fragile: Stack, wire: Wire) -> Iterator[Answer]:
    """Let a statement be authorised, then break the log while it runs."""
    before = newest_seq(fragile)
    result = Answer()
    thread = threading.Thread(target=lambda: result.__dict__.update(wire.simple(BUSY).__dict__))
    thread.start()
    wait_until(lambda: bool(entries_after(fragile, before, "statement.authorised")), within_s=60, what="authorisation")
    with log_refuses_writes(fragile):
        wire.cancel()  # cancelled is an end, too, and it cannot be recorded now
        thread.join(60)
        yield result


def test_stale_rules_let_nothing_run(fragile: Stack, upstream: Upstream, far: Target) -> None:
    label = uuid.uuid4().hex
    with Wire(far, timeout_s=60) as wire:
        wire.simple("SELECT 1")
        with psycopg.connect(fragile.superuser_dsn("hoopweb")) as locker:
            locker.execute("LOCK TABLE gateway_configversion IN ACCESS EXCLUSIVE MODE")
            told = first_refusal(far)
            answer = wire.simple(f"INSERT INTO marks VALUES ('{label}')")
            locker.rollback()

        assert "rules are out of date" in told, "a client that thinks its token bad does not come again"
        assert answer.errors, answer.tags
        assert upstream.query(f"SELECT label FROM marks WHERE label = '{label}'") == []
        wait_until(lambda: bool(wire.simple("SELECT 1").rows), within_s=60, what="fresh rules")


def test_gateway_killed_mid_statement_is_marked_unfinished(fragile: Stack, far: Target) -> None:
    before = newest_seq(fragile)
    wire = Wire(far, timeout_s=60)
    result: list[Answer] = []
    thread = threading.Thread(target=lambda: result.append(wire.simple(BUSY)))
    thread.start()
    wait_until(lambda: bool(entries_after(fragile, before, "statement.authorised")), within_s=60, what="authorisation")

    os.kill(fragile.pids()["gateway"], signal.SIGKILL)
    thread.join(60)

    assert result[0].lost
    assert result[0].rows == []
    fragile.wait_healthy()
    wait_until(
        lambda: any(b'"status":"unfinished"' in e for e in entries_after(fragile, before, "statement.completed")),
        within_s=120,
        what="the statement to be marked unfinished",
    )


def test_gateway_killed_leaves_no_statement_running_upstream(fragile: Stack, upstream: Upstream, far: Target) -> None:
    wire = Wire(far, timeout_s=60)
    thread = threading.Thread(target=lambda: wire.simple(LONG_READ.replace("20000", "2000000")), daemon=True)
    thread.start()
    running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'far_app' AND state = 'active'"
    wait_until(lambda: upstream.query(running) != [(0,)], within_s=60, what="the statement to run")

    os.kill(fragile.pids()["gateway"], signal.SIGKILL)

    wait_until(lambda: upstream.query(running) == [(0,)], within_s=60, what="the upstream to stop working for nobody")
    thread.join(60)


def test_evidence_still_verifies_after_all_of_it(fragile: Stack, far: Target) -> None:
    """Last: whatever was killed, frozen and refused above, the log is whole."""
    bundle = fragile.home / "after-chaos.bundle"

    exported = fragile.manage("audit_bundle", "-o", str(bundle))
    verified = fragile.manage("audit_verify", str(bundle), "--key", str(fragile.demo["audit_vkey"]))

    assert exported.returncode == 0, exported.stderr
    assert verified.returncode in {0, 2}, verified.stdout + verified.stderr  # 2: intact, but nobody anchored it
