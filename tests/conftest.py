"""Fixtures everybody shares. Services come from tests/services.py, the running product from tests/stack.py."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db.backends.postgresql.operations import DatabaseOperations
from hypothesis import settings as hypothesis_settings
from psycopg import sql
from psycopg.conninfo import make_conninfo
from xdist.scheduler import LoadScopeScheduling

from hoopweb.demo.generate import generate, load
from tests.emptying import empty_quickly
from tests.services import SUPERUSER_DSN
from tests.stack import Stack, running_stack, stack_in
from tests.tally import pytest_terminal_summary, tell_product_files  # noqa: F401 - a hook, found by its name
from tests.turn import TURN, has_its_turn, left_out

# How long an example takes says nothing on a busy machine.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

SMALL_CLINIC = 300  # patients: enough for joins and small groups, loaded in a blink


@pytest.fixture(scope="session")
def postgres_dsn() -> str:
    """A superuser's URL of the run's PostgreSQL (the developer's own database when HOOPWEB_HOME names one)."""
    from django.conf import settings

    return os.environ.get(SUPERUSER_DSN) or str(settings.HOOPWEB_DATABASE_URL)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """What goes with the run's own server is not dropped before: that waits five seconds for whoever is still there."""
    return SUPERUSER_DSN in os.environ


@pytest.fixture(scope="session")
def clinic_owner_dsn(postgres_dsn: str) -> Iterator[str]:
    """A scratch clinic of this process: the demo's schema and 300 synthetic patients, as its all-powerful owner."""
    database = f"clinic_{os.getpid()}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    dsn = make_conninfo(postgres_dsn, dbname=database)
    load(dsn, generate(patients=SMALL_CLINIC))
    yield dsn
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture(scope="session")
def clinic_dsn(clinic_owner_dsn: str) -> Iterator[str]:
    """The same clinic as the gateway sees it: a role that owns nothing, may read and write rows, and has pg_temp."""
    role, password = f"clinic_app_{os.getpid()}", "synthetic"
    with psycopg.connect(clinic_owner_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
        )
        connection.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(
                sql.Identifier(role)
            )
        )
    yield make_conninfo(clinic_owner_dsn, user=role, password=password)
    with psycopg.connect(clinic_owner_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product, running; one copy for the session. HOOPWEB_TEST_HOME names a running one to use instead."""
    if existing := os.environ.get("HOOPWEB_TEST_HOME"):
        yield running_stack(Path(existing))
        return
    home = Path(tempfile.mkdtemp(prefix="hoopweb-stack-"))
    home.chmod(0o755)
    with stack_in(home) as running:
        yield running
    shutil.rmtree(home, ignore_errors=True)


# Folders whose few tests take minutes begin first, so that no worker of the gate is left with one at the end. `audit`,
# `contract` and `newcomer` check, export and report the whole log: before others have made it long.
LONG_FIRST = (
    *("chaos", "audit", "contract", "newcomer", "approvals", "hoopweb/browser", "bypass", "bigquery"),
    *("hoopweb/embedded", "clients", "readme", "regress"),
)
# Storms make a log of ten thousand entries, which others of their folder would read whole after them.
LAST_IN_FOLDER = "chaos/test_pipelined.py"


@pytest.fixture(autouse=True, scope="session")
def emptied_between_tests() -> None:
    """Django empties tables after a test with transactions of its own: also the evidence, which refuses it."""
    DatabaseOperations.sql_flush = empty_quickly  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for its seed
def pytest_configure(config: pytest.Config) -> None:
    """Examples are other ones each run, and those of a turn the same (tests/turn.py)."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(TURN)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nine thousand tests and what they import stay to the end: no look for garbage goes through them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has its turn in other runs, mark whatever drives the running product e2e, long folders first."""
    _leave_to_other_turns(config, items)
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)
    tell_product_files(items)
    items.sort(key=_place)  # stable: within a folder they stay as they are


def _leave_to_other_turns(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any("::" in each for each in config.args):  # whoever names a test gets all of it
        return
    places = left_out([(item.nodeid.partition("[")[0], _parts(item)) for item in items])
    places |= {place for place, item in enumerate(items) if not _is_of_this_turn(item)}
    config.hook.pytest_deselected(items=[items[place] for place in sorted(places)])
    items[:] = [item for place, item in enumerate(items) if place not in places]


def _parts(item: pytest.Item) -> int:
    marker = item.get_closest_marker("by_turns")
    return int(marker.args[0]) if marker else 1


def _is_of_this_turn(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("turn")
    return marker is None or has_its_turn(*marker.args, **marker.kwargs)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadscope` a folder goes to one worker, so that the products its tests share start once."""
    return FolderScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


class FolderScheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].rpartition("/")[0]


def _folder(item: pytest.Item) -> str:
    return item.path.parent.relative_to(Path(__file__).parent).as_posix()


def _place(item: pytest.Item) -> tuple[int, bool]:
    folder = _folder(item)
    if not item.get_closest_marker("e2e"):
        return (
            -2 if folder == "." else -1
        ), False  # those of the gate itself, seconds each, leave nobody idle at the end
    return (
        LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST),
        f"{folder}/{item.path.name}" == LAST_IN_FOLDER,
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure on the running product shows what the product said last."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Stack):
                report.sections.append((f"log of {name}", value.log_tail()))
    return report
