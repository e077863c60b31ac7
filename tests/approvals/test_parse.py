"""Configuration documents: everything understood, everything else named by its path."""

from __future__ import annotations

import pytest
import yaml

from analysis.statement import Operation
from approvals.domain.conditions import Condition, Hours
from approvals.domain.parse import ConditionProblem, parse_condition, parse_reviewers
from approvals.domain.request import ReviewerGroup


def test_parse_reads_every_part():
    document = yaml.safe_load(
        """
        operation: [write]
        touches_phi: true
        tables: [public.patients]
        columns: "*.ssn"
        classes: [ssn]
        no_where: true
        export: false
        rows_over: 1000
        incomplete: true
        inference: true
        risk_at_least: 50
        principals: [demo-*]
        groups: [ai-agents]
        kinds: [COPY_*]
        functions: [dblink]
        bytes_over: 10
        hours: {from: "18:00", to: "06:00", zone: Europe/Zurich, days: [mon, sun]}
        all: [{export: true}]
        any: [{export: true}, {no_where: true}]
        not: {groups: [staff]}
        """
    )

    assert parse_condition(document) == Condition(
        operation=frozenset({Operation.WRITE}),
        touches_phi=True,
        tables=("public.patients",),
        columns=("*.ssn",),
        classes=frozenset({"ssn"}),
        no_where=True,
        export=False,
        rows_over=1000,
        incomplete=True,
        inference=True,
        risk_at_least=50,
        principals=("demo-*",),
        groups=frozenset({"ai-agents"}),
        kinds=("COPY_*",),
        functions=("dblink",),
        bytes_over=10,
        hours=Hours(18 * 60, 6 * 60, "Europe/Zurich", frozenset({1, 7})),
        all_of=(Condition(export=True),),
        any_of=(Condition(export=True), Condition(no_where=True)),
        none_of=(Condition(groups=frozenset({"staff"})),),
    )


def test_parse_takes_yaml_base_60_clocks():
    assert parse_condition(yaml.safe_load("hours: {from: 18:00, to: 23:59}")).hours == Hours(18 * 60, 23 * 60 + 59)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "when"),
        (None, "when"),
        ({"row_over": 1}, "when.row_over"),
        ({"all_of": [{}]}, "when.all_of"),
        ({"operation": ["reed"]}, "when.operation"),
        ({"operation": []}, "when.operation"),
        ({"touches_phi": "yes"}, "when.touches_phi"),
        ({"export": 1}, "when.export"),
        ({"rows_over": "10"}, "when.rows_over"),
        ({"rows_over": True}, "when.rows_over"),
        ({"rows_over": -1}, "when.rows_over"),
        ({"tables": [1]}, "when.tables[0]"),
        ({"columns": ["a", ""]}, "when.columns[1]"),
        ({"any": []}, "when.any"),
        ({"any": [{}, {"x": 1}]}, "when.any[1].x"),
        ({"not": {"all": [{"export": None}]}}, "when.not.all[0].export"),
        ({"hours": {"from": "25:00", "to": "06:00"}}, "when.hours.from"),
        ({"hours": {"from": "18:00"}}, "when.hours.to"),
        ({"hours": {"from": "18:00", "to": "19:00", "zone": "Mars/Base"}}, "when.hours.zone"),
        ({"hours": {"from": "18:00", "to": "19:00", "zone": "../../etc/passwd"}}, "when.hours.zone"),
        ({"hours": {"from": "18:00", "to": "19:00", "days": ["someday"]}}, "when.hours.days"),
        ({"hours": {"from": "18:00", "to": "19:00", "at": 1}}, "when.hours.at"),
    ],
)
def test_parse_names_the_path_of_a_problem(document, path):
    with pytest.raises(ConditionProblem) as caught:
        parse_condition(document)

    assert caught.value.path == path


def test_parse_refuses_endless_nesting():
    document: dict[str, object] = {}
    for _ in range(50):
        document = {"not": document}

    with pytest.raises(ConditionProblem, match="nested too deep"):
        parse_condition(document)


def test_parse_reviewers_takes_names_and_quorums():
    groups = parse_reviewers(["officers", {"group": "stewards"}, {"group": "legal", "quorum": 1}], quorum=2)

    assert groups == (ReviewerGroup("officers", 2), ReviewerGroup("stewards", 2), ReviewerGroup("legal", 1))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("officers", "reviewers"),
        ([1], "reviewers[0]"),
        ([{"group": "a", "quorum": 0}], "reviewers[0].quorum"),
        ([{"quorum": 1}], "reviewers[0].group"),
        ([{"group": "a", "size": 1}], "reviewers[0].size"),
    ],
)
def test_parse_reviewers_names_the_path_of_a_problem(document, path):
    with pytest.raises(ConditionProblem) as caught:
        parse_reviewers(document)

    assert caught.value.path == path
