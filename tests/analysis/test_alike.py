"""One analysis serves the statements that were read alike, and says of each what `agree` would have said."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from analysis.alike import Alike, adopted, alike, serves_others
from analysis.statement import Analysis, Statement
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.upstreams import postgres_readings
from gateway.upstreams.postgres_analyst import PostgresAnalyst
from gateway.upstreams.postgres_readings import Readings, Side
from tests.analysis import cases
from tests.analysis.conftest import Analyse

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = [
    line.partition(" => ")[0]
    for listed in (cases.OUTPUTS, cases.WHOLE_ROWS, cases.MIXED, cases.UNMIXED, cases.PREDICATES, cases.ORDINARY)
    for line in listed.strip().splitlines()
]
_NAME = r"(?:\\.|[^ \n\t(){}\\])+"


@pytest.fixture
def analyst(lasting_analyst: PostgresAnalyst) -> PostgresAnalyst:
    return lasting_analyst


class Asked:
    """Every statement that was read twice, and how often both readings had to be compared."""

    def __init__(self) -> None:
        self.readings: list[Readings] = []
        self.compared = 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, analyst: PostgresAnalyst, session_context: SessionContext) -> Asked:
    noted, before, agreed = Asked(), postgres_readings._agreed_before, Readings.agreed

    def note(side: Side, readings: Readings) -> Analysis:
        noted.readings.append(readings)
        return before(side, readings)

    def counted(readings: Readings) -> Analysis:
        noted.compared += 1
        return agreed(readings)

    monkeypatch.setattr(postgres_readings, "_agreed_before", note)
    monkeypatch.setattr(Readings, "agreed", counted)
    analyst._side(session_context.connection).alike.clear()
    return noted


def renamed(readings: Readings) -> Readings:
    """The same, had every output, alias and column of an alias another name, at another place of the text."""
    assert readings.witness is not None
    tree, number = readings.witness.tree, iter(range(100_000))
    tree = re.sub(rf":(resname|aliasname) {_NAME}", lambda found: f":{found[1]} other{next(number)}", tree)
    tree = re.sub(r":colnames \((?:\\.|[^()\\])*\)", ':colnames ("other" "\\\\(an\\\\ other")', tree)
    tree = re.sub(r":(location|stmt_location|stmt_len) -?[0-9]+", r":\1 77", tree)
    return replace(readings, witness=replace(readings.witness, tree=tree), statement=Statement("another"))


def of(readings: Readings) -> Alike | None:
    assert readings.witness is not None
    return alike(utility=readings.utility, client=readings.client, witness=readings.witness)


async def test_whatever_differs_in_names_alone_has_one_analysis_but_for_them(
    asked: Asked, analyst: PostgresAnalyst, session_context: SessionContext
) -> None:
    """Of the statements whose readings are tested one by one: `agree` over the altered tree says the same of it."""
    served = 0
    for text in TEXTS:
        asked.readings.clear()
        try:
            await analyst.analyse(session_context, Statement(f"{text} "))
        except UpstreamRejected:
            continue
        for readings in asked.readings:
            other = renamed(readings) if readings.witness is not None else None
            mine, theirs = (of(each) if each is not None else None for each in (readings, other))
            if other is None or mine is None or theirs is None or not serves_others(found := readings.agreed(), mine):
                continue
            assert mine.key == theirs.key
            assert mine.names != theirs.names
            assert adopted(found, theirs, statement=other.statement, shape=other.shape) == other.agreed(), text
            served += 1

    assert served > 150


async def test_only_the_first_of_its_kind_is_compared(asked: Asked, analyse: Analyse) -> None:
    first = await analyse("SELECT p.ssn AS shown, id FROM patients p WHERE p.zip = 'a' ORDER BY shown")
    second = await analyse("SELECT ssn AS hidden, q.id AS \"n (o)\" FROM patients AS q WHERE zip = 'a' ORDER BY hidden")

    assert asked.compared == 1
    assert [output.name for output in second.outputs or ()] == ["hidden", "n (o)"]
    assert first.fingerprint != second.fingerprint
    texts = {"statement": second.statement, "fingerprint": second.fingerprint, "outputs": second.outputs}
    assert replace(first, **texts) == second  # type: ignore[arg-type]
    assert [output.origins for output in first.outputs or ()] == [output.origins for output in second.outputs or ()]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT ssn AS a FROM patients", "SELECT zip AS a FROM patients"),
        ("SELECT ssn AS a FROM patients LIMIT 5", "SELECT ssn AS b FROM patients LIMIT 6"),
        ("SELECT ssn AS a, zip AS b FROM patients ORDER BY b", "SELECT ssn AS b, zip AS a FROM patients ORDER BY b"),
        (
            "WITH a AS (SELECT ssn AS v FROM patients), b AS (SELECT zip AS v FROM patients) SELECT v FROM a",
            "WITH a AS (SELECT ssn AS v FROM patients), b AS (SELECT zip AS v FROM patients) SELECT v FROM b",
        ),
        ("SELECT a.ssn FROM patients a, patients b", "SELECT b.ssn FROM patients a, patients b"),
        ("SELECT details->>'ssn' AS a FROM encounters", "SELECT details->>'zip' AS b FROM encounters"),
        ("SELECT upper(ssn) AS a FROM patients", "SELECT lower(ssn) AS a FROM patients"),
    ],
)
async def test_whatever_else_differs_is_compared(asked: Asked, analyse: Analyse, one: str, other: str) -> None:
    await analyse(one)
    await analyse(other)

    assert asked.compared == 2


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_read_file('x') AS {0}",
        "DELETE FROM guesses WHERE guess = '1' RETURNING guess AS {0}",
        "EXPLAIN SELECT ssn AS {0} FROM patients",
        "CREATE TEMP TABLE {0} AS SELECT ssn AS {0} FROM patients",
    ],
)
async def test_what_is_no_complete_select_is_compared_every_time(asked: Asked, analyse: Analyse, text: str) -> None:
    for name in ("one", "other"):
        await analyse(text.format(name))

    assert asked.compared == 2


async def test_a_schema_that_changed_is_read_anew(
    asked: Asked, analyst: PostgresAnalyst, session_context: SessionContext, analyse: Analyse
) -> None:
    await analyse("SELECT ssn AS one FROM patients")
    side = analyst._side(session_context.connection)
    side.forget()
    await analyse("SELECT ssn AS other FROM patients")

    assert asked.compared == 2
