"""Last of all: nothing the attacks asked for, or typed, lies about in the stack's logs, mail, queue or tables.

The attacks put canaries into statements as guesses, too; so this also shows that statement text is stored sealed.
"""

from __future__ import annotations

import pytest

from tests.bypass.attack import Arena, Mode, attack, play
from tests.bypass.canary import found, left_behind
from tests.bypass.watch import RedisWatch, contents, dump
from tests.stack import Stack


@pytest.fixture(autouse=True)
def _something_happened(arena: Arena) -> None:
    """Also alone, this module has a guess denied or held, a masked read and an error behind it."""
    for sql in (
        "SELECT id FROM patients WHERE ssn = '536-71-9284'",
        "SELECT * FROM patients WHERE id = 900001",
        "SELECT ssn::int FROM patients WHERE id = 900001",
        "UPDATE patients SET ssn = '536-71-9284' WHERE id = 900001",
    ):
        play(arena.gateway, attack("trace", sql), Mode.SIMPLE, rehearsal=False)


@pytest.mark.e2e
def test_combined_log_holds_no_canary(stack: Stack) -> None:
    log = stack.log_path.read_bytes()

    assert b"gateway" in log, "this is not the combined log"
    assert left_behind(log) == []


@pytest.mark.e2e
def test_mail_holds_no_canary(stack: Stack) -> None:
    mail = contents(stack.home / "mail")

    assert b"/reviews/" in mail, "no mail was sent, expected one for a held statement"
    assert left_behind(mail) == []


@pytest.mark.e2e
def test_redis_saw_no_canary(redis_watch: RedisWatch) -> None:
    seen = redis_watch.seen()

    assert b"approvals" in seen, "no task was seen in the queue, expected a notification"
    assert left_behind(seen) == []


@pytest.mark.e2e
def test_control_database_holds_no_canary(stack: Stack) -> None:
    clinic = dump(stack.superuser_dsn("clinic"))
    assert "ssn" in found(clinic), "the scan does not find a canary where one is"

    control = dump(str(stack.demo["control_dsn"]))

    assert b"statement.authorised" in control or b"audit_" in control
    assert left_behind(control) == []


@pytest.mark.e2e
def test_files_of_the_home_hold_no_canary(stack: Stack) -> None:
    """Recordings, spools and whatever else is kept beside the databases."""
    for path in stack.home.rglob("*"):
        if path.is_file() and "postgres" not in path.relative_to(stack.home).parts:
            assert left_behind(path.read_bytes()) == [], path
