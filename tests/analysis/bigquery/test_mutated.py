"""Statements spoiled at random, from a fixed seed: every one is answered, and doubted where it is not sure."""

from __future__ import annotations

import os
import random

from analysis.bigquery.lexer import tokenize
from analysis.bigquery.read import needed
from tests.analysis.bigquery import test_read as known
from tests.analysis.bigquery.warehouse import DEFAULTS, analyse

COUNT = 20_000 if os.environ.get("HOOPWEB_SOAK") else 600
TABLES = (known.OUTPUTS, known.PREDICATES, known.OPERATIONS, known.WRITES, known.FACTS)


def spoiled(chance: random.Random, statements: list[list[str]]) -> str:
    """A statement with a few tokens left out, doubled, or taken from others."""
    words = list(chance.choice(statements))
    for _ in range(chance.randint(1, 3)):
        place, other = chance.randrange(len(words)), chance.choice(statements)
        start = chance.randrange(len(other))
        taken = other[start : start + chance.randint(0, 4)]
        words[place : place + chance.randint(0, 1)] = taken or ["x"]
    return " ".join(words)


def test_spoiled_statements_are_read_without_raising() -> None:
    chance = random.Random(20_261_120)
    statements = [[token.text for token in tokenize(text)] for table in TABLES for text, _ in known.cases(table)]

    for _ in range(COUNT):
        text = spoiled(chance, statements)
        analysis = analyse(text)
        needed(text, DEFAULTS)

        assert analysis.complete == (not analysis.problems), text
        assert analysis.complete or all(not output.resolved for output in analysis.outputs or ()), text


def test_a_condition_without_a_source_is_read() -> None:
    """Found by the above: a select list that is a function over a subquery, and a WHERE without FROM."""
    assert not analyse("SELECT mrn (SELECT mrn, id FROM patients) WHERE id = 5").complete
