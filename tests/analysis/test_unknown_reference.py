"""A foreign key tells whether a value is in another table: where that is not known, nobody can say whose it is."""

from __future__ import annotations

import pytest

from analysis.catalogue import Catalogue, Column, Reference, Relation
from analysis.scope import Reading
from analysis.writes import Writes

VISITS = Relation(20_001, "public", "visits", "r", {1: Column("patient", 23)}, references=(Reference(1, 20_002, 1),))
PATIENTS = Relation(20_002, "public", "patients", "r", {1: Column("id", 23)})
OTHERS = Relation(20_002, "public", "patients", "r", {2: Column("name", 25)})


@pytest.mark.parametrize(("target", "understood"), [(PATIENTS, True), (OTHERS, False), (None, False)])
@pytest.mark.parametrize("one", [True, False])
def test_write_of_a_column_that_refers_to_what_is_not_known_is_not_understood(
    target: Relation | None, understood: bool, one: bool
) -> None:
    relations = {relation.oid: relation for relation in (VISITS, target) if relation is not None}
    reading = Reading(Catalogue("1", relations, {}, {}))

    Writes(reading, lambda _: ())._look_up((VISITS.oid, 1), one=one)

    assert (not reading.problems) is understood
    assert bool(reading.predicates) is understood
