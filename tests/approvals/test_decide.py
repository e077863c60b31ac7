"""The decision table: deny beats approval beats allow, and nothing unknown is ever harmless."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from analysis.statement import ColumnRef, Facts, Operation, RiskAddend, TableRef
from analysis.touch import ProtectedTouch
from approvals.domain import conditions
from approvals.domain.conditions import Condition, Hours, evaluate
from approvals.domain.decide import Action, decide
from approvals.domain.request import Allow, Deny, RequireApproval, ReviewerGroup
from approvals.domain.wording import _WORDS
from tests.approvals.factories import (
    ADMIN,
    AGENT,
    DDL,
    OFFICERS,
    PATIENTS,
    READ,
    SESSION,
    SSN,
    WRITE,
    access_request,
    access_rule,
    policy,
)

ALLOW, ASK, DENY = Action.ALLOW, Action.REQUIRE_APPROVAL, Action.DENY
EVERYTHING = access_rule(READ, WRITE, DDL, ADMIN)
PHI = ProtectedTouch(columns_read=frozenset({SSN}), classes=frozenset({"ssn"}))
INFERS = replace(PHI, inference_violations=("ssn: comparison with a constant (rule ssn, guarded)",))


def answer(request, *policies, rules=(EVERYTHING,)):
    return decide(request, access_rules=rules, policies=policies)


# --- Access ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "given", "allowed"),
    [
        ((READ,), (READ,), True),
        ((READ,), (WRITE,), False),
        ((READ, WRITE), (READ,), False),
        ((READ, WRITE), (READ, WRITE), True),
        ((DDL,), (READ, WRITE), False),
        ((ADMIN,), (READ, WRITE, DDL), False),
        ((SESSION,), (READ,), True),
        ((SESSION, WRITE), (READ,), False),
    ],
)
def test_access_needs_every_operation(operations, given, allowed):
    decision = answer(access_request(*operations), rules=(access_rule(*given),))

    assert isinstance(decision, Allow) is allowed


@pytest.mark.parametrize("operation", list(Operation))
def test_access_denied_without_any_rule(operation):
    decision = answer(access_request(operation), rules=())

    assert isinstance(decision, Deny)
    assert decision.code == "access-denied"


@pytest.mark.parametrize(
    "rule",
    [
        access_rule(READ, groups={"people"}),
        access_rule(READ, connections=("warehouse",)),
        access_rule(READ, connections=("Clinic",)),
        access_rule(READ, connections=()),
    ],
)
def test_access_rule_of_others_gives_nothing(rule):
    assert isinstance(answer(access_request(READ), rules=(rule,)), Deny)


def test_access_adds_up_over_rules():
    rules = (access_rule(READ, name="readers"), access_rule(WRITE, name="writers", connections=("cl*",)))

    assert answer(access_request(READ, WRITE), rules=rules) == Allow(rule="readers, writers")
    assert answer(access_request(READ), rules=rules) == Allow(rule="readers")


def test_access_denial_names_what_is_permitted():
    rules = (access_rule(READ, WRITE), access_rule(READ, connections=("claims",)))

    here = answer(access_request(DDL), rules=rules)
    elsewhere = answer(access_request(READ, connection="warehouse"), rules=rules)
    nowhere = answer(access_request(READ), rules=(access_rule(READ, groups={"people"}),))

    assert here.permitted_alternative == "on connection clinic you may run read, write statements"
    assert elsewhere.permitted_alternative == "you have access to: clinic (read, write); claims (read)"
    assert nowhere.permitted_alternative.startswith("none of your groups has access")


def test_access_without_known_operations_needs_every_right():
    request = access_request(READ, phi=False)
    unknown = replace(request, analysis=replace(request.analysis, operations=frozenset()))

    assert isinstance(answer(unknown, rules=(access_rule(READ, WRITE, DDL),)), Deny)
    assert isinstance(answer(unknown), Allow)


# --- Precedence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "kind"),
    [
        ((), Allow),
        ((ALLOW,), Allow),
        ((ASK,), RequireApproval),
        ((DENY,), Deny),
        ((ALLOW, ASK), RequireApproval),
        ((ASK, DENY), Deny),
        ((ALLOW, DENY), Deny),
        ((ALLOW, ASK, DENY), Deny),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_deny_beats_approval_beats_allow(actions, kind, backwards):
    policies = [policy(action, name=str(action)) for action in actions]

    assert isinstance(answer(access_request(), *(reversed(policies) if backwards else policies)), kind)


def test_no_policy_replaces_an_access_rule():
    decision = answer(access_request(), policy(ALLOW), policy(ASK), rules=())

    assert decision.code == "access-denied"


def test_policy_of_another_connection_says_nothing():
    assert isinstance(answer(access_request(), policy(DENY, connections=("warehouse",))), Allow)


def test_policy_denial_names_rule_and_alternative():
    decision = answer(access_request(facts=Facts(row_bound=None)), policy(DENY, name="bulk", rows_over=100))

    assert decision == Deny(
        code="policy-denied",
        rule="bulk",
        reason="policy bulk denies more than 100 rows",
        permitted_alternative="add LIMIT 100 or less",
        policies=("bulk@0",),
    )


def test_allow_policy_is_named_by_the_decision():
    assert answer(access_request(), policy(ALLOW, name="lookups", operation=frozenset({READ}))).rule == "lookups"


def test_several_approvals_need_every_group_and_the_strictest_expiries():
    stewards = ReviewerGroup("data-stewards", 1)
    decision = answer(
        access_request(),
        policy(ASK, name="a", reviewers=(OFFICERS, stewards), decide_within_s=600, execute_within_s=60),
        policy(ASK, name="b", reviewers=(ReviewerGroup("privacy-officers", 2),), decide_within_s=60),
    )

    assert decision.reviewers == (ReviewerGroup("privacy-officers", 2), stewards)
    assert (decision.decide_within_s, decision.execute_within_s) == (60, 60)
    assert decision.rule == "a, b"


def test_approval_without_reviewers_is_a_denial():
    assert answer(access_request(), policy(ASK, reviewers=())).code == "no-reviewers"


@pytest.mark.parametrize("quorum", [0, -1])
def test_approval_always_asks_at_least_one_person(quorum):
    decision = answer(access_request(), policy(ASK, reviewers=(ReviewerGroup("officers", quorum),)))

    assert decision.reviewers == (ReviewerGroup("officers", 1),)


# --- What could not be read ------------------------------------------------------------------------------------------

DOUBTFUL = [{"complete": False, "problems": ("two readings differ",)}, {"opaque_functions": frozenset({"app.f"})}]


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_doubtful_analysis_on_phi_is_denied(doubt):
    assert answer(access_request(**doubt)).code == "incomplete-analysis"


@pytest.mark.parametrize("doubt", DOUBTFUL)
@pytest.mark.parametrize(
    "permissive",
    [
        policy(ALLOW),
        policy(ALLOW, incomplete=True),
        policy(ASK),
        policy(ASK, incomplete=True, reviewers=()),
        policy(ASK, when=Condition(none_of=(Condition(incomplete=True),))),
        policy(ASK, when=Condition(incomplete=True, operation=frozenset({WRITE}))),
    ],
)
def test_doubtful_analysis_on_phi_is_never_let_through_by(doubt, permissive):
    assert isinstance(answer(access_request(**doubt), permissive), Deny)


@pytest.mark.parametrize("doubt", DOUBTFUL)
@pytest.mark.parametrize(
    "asking",
    [
        policy(ASK, incomplete=True),
        policy(ASK, when=Condition(any_of=(Condition(incomplete=True), Condition(export=True)))),
        policy(ASK, when=Condition(all_of=(Condition(incomplete=True),))),
    ],
)
def test_doubtful_analysis_may_be_put_to_reviewers(doubt, asking):
    assert isinstance(answer(access_request(**doubt), asking), RequireApproval)


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_doubtful_analysis_off_phi_follows_the_rules(doubt):
    assert isinstance(answer(access_request(phi=False, **doubt)), Allow)
    assert isinstance(answer(access_request(phi=False, **doubt), policy(ASK, incomplete=True)), RequireApproval)


@pytest.mark.parametrize("doubt", DOUBTFUL)
@pytest.mark.parametrize(
    "parts",
    [
        {"tables": ("public.patients",)},
        {"columns": ("*.ssn",)},
        {"classes": frozenset({"ssn"})},
        {"touches_phi": True},
        {"touches_phi": False},
        {"rows_over": 1000},
        {"functions": ("dblink*",)},
        {"inference": True},
        {"none_of": (Condition(tables=("public.patients",)),)},
    ],
)
def test_doubtful_analysis_cannot_escape_a_denial(doubt, parts):
    ask = policy(ASK, name="ask", incomplete=True)

    decision = answer(access_request(**doubt), ask, policy(DENY, name="no", **parts))

    assert (decision.code, decision.rule) == ("policy-denied", "no")


# --- Inference -------------------------------------------------------------------------------------------------------


def test_inference_is_denied_without_reviewers():
    decision = answer(access_request(touch=INFERS))

    assert (decision.code, decision.rule) == ("inference-denied", "inference:ssn")
    assert decision.permitted_alternative.startswith("drop the comparison on ssn")


def test_inference_is_put_to_a_policy_that_asks_for_it():
    decision = answer(access_request(touch=INFERS), policy(ASK, name="guess", inference=True))

    assert isinstance(decision, RequireApproval)
    assert decision.rule == "guess"


def test_inference_borrows_the_reviewers_of_the_connection():
    decision = answer(access_request(touch=INFERS), policy(ASK, operation=frozenset({WRITE}), decide_within_s=9))

    assert isinstance(decision, RequireApproval)
    assert (decision.rule, decision.reviewers, decision.decide_within_s) == ("inference:ssn", (OFFICERS,), 9)


@pytest.mark.parametrize("allowing", [policy(ALLOW), policy(ALLOW, inference=True)])
def test_inference_is_not_waived_by_an_allow_policy(allowing):
    assert isinstance(answer(access_request(touch=INFERS), allowing), Deny)


def test_inference_of_reviewers_elsewhere_is_denied():
    assert isinstance(answer(access_request(touch=INFERS), policy(ASK, connections=("warehouse",))), Deny)


# --- Conditions ------------------------------------------------------------------------------------------------------

NINE_UTC_MONDAY = 1_767_603_600.0  # 2026-01-05 09:00 UTC
DEFINITE = [
    ({"operation": frozenset({READ})}, {}, True),
    ({"operation": frozenset({WRITE})}, {}, False),
    ({"touches_phi": True}, {"touch": PHI}, True),
    ({"touches_phi": True}, {}, False),
    ({"touches_phi": False}, {}, True),
    ({"tables": ("public.pat*",)}, {"tables_read": frozenset({PATIENTS})}, True),
    ({"tables": ("public.pat*",)}, {"tables_written": frozenset({PATIENTS})}, True),
    ({"tables": ("public.patients",)}, {"tables_read": frozenset({TableRef("public", "patients_2020")})}, False),
    ({"columns": ("public.patients.*",)}, {"reads": frozenset({SSN})}, True),
    ({"columns": ("*.ssn",)}, {"touch": PHI}, True),
    ({"columns": ("*.ssn",)}, {"reads": frozenset({ColumnRef("public", "patients", "city")})}, False),
    ({"classes": frozenset({"ssn"})}, {"touch": PHI}, True),
    ({"classes": frozenset({"name"})}, {"touch": PHI}, False),
    ({"no_where": True}, {"facts": Facts(no_where=True)}, True),
    ({"no_where": True}, {"facts": Facts()}, False),
    ({"no_where": False}, {"facts": Facts()}, True),
    ({"export": True}, {"facts": Facts(export=True)}, True),
    ({"export": True}, {"facts": Facts()}, False),
    ({"rows_over": 100}, {"facts": Facts()}, True),
    ({"rows_over": 100}, {"facts": Facts(row_bound=100)}, False),
    ({"rows_over": 100}, {"facts": Facts(row_bound=101)}, True),
    ({"rows_over": 100}, {"facts": Facts(row_bound=101, estimated_rows=3)}, False),
    ({"rows_over": 100}, {"facts": Facts(estimated_rows=101)}, True),
    ({"rows_over": 100}, {"facts": Facts(aggregated=True)}, False),
    ({"bytes_over": 100}, {"facts": Facts()}, True),
    ({"bytes_over": 100}, {"facts": Facts(estimated_bytes=100)}, False),
    ({"incomplete": True}, {}, False),
    ({"incomplete": True}, {"complete": False}, True),
    ({"incomplete": False}, {"opaque_functions": frozenset({"f"})}, False),
    ({"inference": True}, {"touch": INFERS}, True),
    ({"inference": True}, {"touch": PHI}, False),
    ({"risk_at_least": 30}, {"risk": (RiskAddend("a", 10), RiskAddend("b", 20))}, True),
    ({"risk_at_least": 31}, {"risk": (RiskAddend("a", 10), RiskAddend("b", 20))}, False),
    ({"principals": ("demo-*",)}, {}, True),
    ({"principals": ("other",)}, {}, False),
    ({"groups": frozenset({"ai-agents", "x"})}, {}, True),
    ({"groups": frozenset({"x"})}, {}, False),
    ({"kinds": ("COPY_*",)}, {"kind": "COPY_TO"}, True),
    ({"kinds": ("COPY_*",)}, {}, False),
    ({"functions": ("md5",)}, {"functions": frozenset({"md5"})}, True),
    ({"functions": ("md5",)}, {"functions": frozenset({"count"})}, False),
    ({"hours": Hours(9 * 60, 10 * 60)}, {"at": NINE_UTC_MONDAY}, True),
    ({"hours": Hours(9 * 60, 10 * 60)}, {"at": NINE_UTC_MONDAY + 3600}, False),
    ({"hours": Hours(9 * 60, 10 * 60, "Europe/Zurich")}, {"at": NINE_UTC_MONDAY}, False),
    ({"hours": Hours(22 * 60, 10 * 60)}, {"at": NINE_UTC_MONDAY}, True),
    ({"hours": Hours(22 * 60, 9 * 60)}, {"at": NINE_UTC_MONDAY}, False),
    ({"hours": Hours(0, 1440, days=frozenset({1}))}, {"at": NINE_UTC_MONDAY}, True),
    ({"hours": Hours(0, 1440, days=frozenset({2}))}, {"at": NINE_UTC_MONDAY}, False),
    ({"all_of": (Condition(), Condition(export=True))}, {"facts": Facts()}, False),
    ({"all_of": (Condition(), Condition(export=False))}, {"facts": Facts()}, True),
    ({"any_of": (Condition(no_where=True), Condition(export=True))}, {"facts": Facts(export=True)}, True),
    ({"any_of": (Condition(no_where=True), Condition(export=True))}, {"facts": Facts()}, False),
    ({"none_of": (Condition(export=True),)}, {"facts": Facts()}, True),
    ({"none_of": (Condition(export=True),)}, {"facts": Facts(export=True)}, False),
    ({"export": True, "no_where": True}, {"facts": Facts(export=True)}, False),
    ({}, {}, True),
]


@pytest.mark.parametrize(("parts", "known", "holds"), DEFINITE)
def test_condition_holds(parts, known, holds):
    assert evaluate(Condition(**parts), access_request(**known)) is holds


def test_every_part_of_a_condition_is_evaluated_worded_and_tested():
    names = {part.name for part in fields(Condition)}

    assert set(conditions._PARTS) == names
    assert set(_WORDS) == names
    assert {name for parts, _, _ in DEFINITE for name in parts} == names


@pytest.mark.parametrize("operations", [(SESSION,), (DDL,)])
def test_condition_rows_over_spares_statements_that_move_no_rows(operations):
    assert evaluate(Condition(rows_over=0), access_request(*operations, facts=Facts())) is False


def test_condition_unknown_is_carried_through_negation_and_conjunction():
    doubtful = access_request(complete=False)
    unknown = Condition(tables=("public.patients",))

    assert evaluate(unknown, doubtful) is None
    assert evaluate(Condition(none_of=(unknown,)), doubtful) is None
    assert evaluate(Condition(all_of=(unknown, Condition(export=True))), doubtful) is False
    assert evaluate(Condition(any_of=(unknown, Condition(incomplete=True))), doubtful) is True


def test_decision_quotes_no_literal():
    secret = "SELECT * FROM patients WHERE ssn = '900-01-2345'"
    for decision in (
        answer(access_request(text=secret, touch=INFERS)),
        answer(access_request(text=secret, complete=False)),
        answer(access_request(text=secret), policy(ASK)),
        answer(access_request(text=secret), rules=()),
    ):
        assert "900-01-2345" not in repr(decision)


def test_decision_is_the_same_for_the_same_question():
    request = access_request(READ, WRITE, touch=PHI, principal=AGENT)
    policies = (policy(ASK, name="b"), policy(ASK, name="a", reviewers=(ReviewerGroup("x"),)))

    assert len({answer(request, *policies) for _ in range(5)}) == 1


# --- A person an agent acts for --------------------------------------------------------------------------------------

DELEGATED = replace(
    AGENT,
    subject="ada",
    actor="demo-agent",
    kind="person",
    groups=frozenset({"ai-agents"}),
    either_groups=frozenset({"ai-agents", "clinicians", "watched"}),
)


@pytest.mark.parametrize("action", [DENY, ASK])
@pytest.mark.parametrize(
    "when",
    [
        Condition(groups=frozenset({"watched"})),
        Condition(principals=("demo-agent",)),
        Condition(principals=("ada",)),
        Condition(none_of=(Condition(groups=frozenset({"clinicians"})),)),
    ],
    ids=["group of one", "agent", "person", "all but a group of one"],
)
def test_two_together_escape_no_rule_that_restricts_one(action, when):
    """The control: each rule lets a request pass that it does not mean."""
    rule = policy(action, when=when, reviewers=(OFFICERS,))
    nobody = replace(
        DELEGATED, subject="eve", actor=None, groups=frozenset({"ai-agents", "clinicians"}), either_groups=frozenset()
    )
    assert isinstance(answer(replace(access_request(READ), principal=nobody), rule), Allow)

    decision = answer(replace(access_request(READ), principal=DELEGATED), rule)

    assert isinstance(decision, Deny if action is DENY else RequireApproval)


def test_two_together_have_no_right_only_one_has():
    rights = (access_rule(READ, groups=frozenset({"clinicians"})),)
    alone = replace(DELEGATED, actor=None, groups=frozenset({"clinicians"}), either_groups=frozenset())
    assert isinstance(answer(replace(access_request(READ), principal=alone), rules=rights), Allow)

    assert isinstance(answer(replace(access_request(READ), principal=DELEGATED), rules=rights), Deny)


def test_who_skips_a_policy_does_not_skip_it_for_an_agent():
    rule = replace(policy(ASK), skip_groups=frozenset({"clinicians"}))

    assert isinstance(answer(replace(access_request(READ), principal=DELEGATED), rule), RequireApproval)


# --- Copies ----------------------------------------------------------------------------------------------------------

SPREADS = replace(PHI, columns_spread=frozenset({SSN}))


def test_a_copy_no_rule_covers_is_denied_unless_a_reviewer_is_asked():
    request = access_request(READ, WRITE, touch=SPREADS)
    asks = policy(ASK, name="care", operation=frozenset({WRITE}))

    alone, asked = answer(request), answer(request, asks)

    assert (alone.code, alone.rule) == ("unprotected-copy", "unprotected-copy")
    assert str(SSN) in alone.reason
    assert "have an administrator mask the destination" in alone.permitted_alternative
    assert isinstance(asked, RequireApproval)
    assert "where no masking rule covers them" in asked.reason


def test_an_allow_policy_does_not_permit_a_copy():
    decision = answer(access_request(READ, WRITE, touch=SPREADS), policy(ALLOW, name="open"))

    assert decision.code == "unprotected-copy"
