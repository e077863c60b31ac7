"""Stored policies: refused in words when they cannot be meant, loaded as the rules the data path decides by."""

from __future__ import annotations

from html import unescape

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from analysis.statement import Operation
from approvals.domain import hooks
from approvals.domain.conditions import Condition
from approvals.domain.decide import Action, PolicyRule, decide
from approvals.domain.facts import meaning_of
from approvals.domain.grant import claim_grant, release_grant, revoke_grant
from approvals.domain.load import load_policies
from approvals.domain.parse import ConditionProblem
from approvals.domain.policies import delete_policy, save_policy
from approvals.domain.request import Allow, Deny, GrantTerms, ReviewerGroup
from approvals.domain.review import decide_review
from approvals.models import Grant, Policy, PolicyVersion, Review, Vote
from tests.approvals.factories import WRITE, access_request, access_rule, binding, held, person

pytestmark = pytest.mark.django_db


def stored(**changes):
    known = {
        "name": "phi-writes",
        "connections": ["clinic"],
        "when": {"operation": ["write"], "touches_phi": True},
        "action": "require_approval",
        "reviewers": ["privacy-officers"],
    }
    policy = Policy(**(known | changes))
    policy.full_clean()
    policy.save()
    return policy


def test_policy_is_loaded_as_a_rule():
    stored(quorum=2, decide_within_s=60, execute_within_s=30)
    stored(name="off", enabled=False)

    assert load_policies() == (
        PolicyRule(
            name="phi-writes",
            connections=("clinic",),
            action=Action.REQUIRE_APPROVAL,
            when=Condition(operation=frozenset({Operation.WRITE}), touches_phi=True),
            reviewers=(ReviewerGroup("privacy-officers", 2),),
            decide_within_s=60,
            execute_within_s=30,
        ),
    )


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"when": {"rows_ovr": 1}}, "when", "when.rows_ovr: is unknown"),
        ({"when": []}, "when", "expected a mapping"),
        ({"reviewers": []}, "reviewers", "every such statement is denied"),
        ({"reviewers": [{"group": "a", "quorum": 0}]}, "reviewers", "expected at least 1"),
        ({"connections": []}, "connections", ""),
        ({"quorum": 0}, "quorum", ""),
        ({"action": "maybe"}, "action", ""),
        ({"decide_within_s": 0}, "decide_within_s", ""),
    ],
)
def test_policy_that_cannot_be_meant_is_refused(changes, field, words):
    with pytest.raises(ValidationError) as caught:
        stored(**changes)

    assert words in " ".join(caught.value.message_dict[field])


def test_policy_broken_behind_our_back_stops_the_loading():
    stored()
    Policy.objects.update(when={"nonsense": 1})

    with pytest.raises(ConditionProblem, match=r"phi-writes\.when\.nonsense"):
        load_policies()


def test_policy_saved_in_the_console_raises_the_version(client, monkeypatch):
    client.force_login(person("root", is_superuser=True, is_staff=True))
    raised = []
    hooks.register(rules_changed=lambda: raised.append(1))

    form = {"name": "p", "connections": "clinic", "when": "{}", "action": "deny", "reviewers": "[]", "quorum": 1}
    form |= {"decide_within_s": 60, "execute_within_s": 60, "reviewers_needed": "all", "grants": "once", "grace_s": 0}
    form |= {"escalate_before_s": 0}
    answer = client.post("/admin/approvals/policy/add/", form | {"grant_for_s": 60, "max_uses": 1})

    assert (answer.status_code, raised, Policy.objects.count()) == (302, [1], 1)


def policy_form(**changes):
    form = {"name": "p", "connections": "clinic", "when": "", "action": "deny", "reviewers": "", "quorum": 1}
    form |= {"decide_within_s": 60, "execute_within_s": 60, "reviewers_needed": "all", "grants": "once", "grace_s": 0}
    return form | {"escalate_before_s": 0, "grant_for_s": 60, "max_uses": 1, "enabled": "on"} | changes


NESTED = """
any:
  - all: [{operation: [write]}, {columns: ["public.*.ssn"]}]
  - not: {hours: {from: "08:00", to: "18:00", zone: Europe/Zurich, days: [mon, fri]}}
"""


def test_nested_conditions_are_written_in_the_console_and_said_back_in_words(client):
    client.force_login(person("root", is_superuser=True, is_staff=True))
    form = policy_form(when=NESTED, action="require_approval", reviewers="[{group: privacy-officers, quorum: 2}]")

    assert client.post("/admin/approvals/policy/add/", form).status_code == 302
    stored_policy = Policy.objects.get()
    shown = client.get(f"/admin/approvals/policy/{stored_policy.pk}/change/").text
    listed = client.get("/admin/approvals/policy/").text

    assert stored_policy.when["any"][1]["not"]["hours"]["zone"] == "Europe/Zurich"
    assert stored_policy.reviewers == [{"group": "privacy-officers", "quorum": 2}]
    for text in (shown, listed):
        assert "any of (all of (write statements" in text
    assert "p@1, by root" in shown
    assert "zone: Europe/Zurich" in shown  # as it was written, not in one line of JSON


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("any: [{rows_over: many}]", "when.any[0].rows_over: expected a whole number, zero or more"),
        ("tabels: [public.x]", "when.tabels: is unknown, expected one of operation"),
        ("hours: {from: noon, to: '18:00'}", "when.hours.from: expected a time such as 18:00"),
        ("all: [", "is not YAML (line 1)"),
        ("a: &x [1]\nb: *x", "holds an alias"),
        ("[" * 3000, "is not YAML"),
        ("just words", "when: is a str, expected a mapping"),
    ],
)
def test_condition_nobody_can_read_is_refused_with_its_place(when, said, client):
    client.force_login(person("root", is_superuser=True, is_staff=True))

    answer = client.post("/admin/approvals/policy/add/", policy_form(when=when))

    assert answer.status_code == 200
    assert said in unescape(answer.text)
    assert not Policy.objects.exists()


def test_policy_saved_unchanged_in_the_console_stays_the_version_it_is(client):
    client.force_login(person("root", is_superuser=True, is_staff=True))
    client.post("/admin/approvals/policy/add/", policy_form(when=NESTED))
    policy = Policy.objects.get()
    shown = client.get(f"/admin/approvals/policy/{policy.pk}/change/").context["adminform"].form

    again = policy_form(when=shown["when"].value(), reviewers=shown["reviewers"].value())
    assert client.post(f"/admin/approvals/policy/{policy.pk}/change/", again).status_code == 302

    assert PolicyVersion.objects.count() == 1


def test_console_shows_reviews_without_what_was_sealed(client, reviewer):
    client.force_login(person("root", is_superuser=True, is_staff=True))
    review = held()
    decide_review(review=review, reviewer=reviewer, decision="approve", reason="looked at it")

    page = client.get(f"/admin/approvals/review/{review.pk}/change/")

    assert page.status_code == 200
    assert "555-0100" not in page.text
    assert client.post(f"/admin/approvals/review/{review.pk}/change/", {"status": "denied"}).status_code == 403


def test_database_holds_one_vote_a_person_and_round(reviewer):
    review = held()
    vote = {"review": review, "reviewer": "reviewer", "groups": [], "decision": "approve", "sealed_reason": b"x"}
    Vote.objects.create(**vote)

    with pytest.raises(IntegrityError):
        Vote.objects.create(**vote)


def test_released_grant_serves_the_modified_text(reviewer):
    better = "UPDATE patients SET phone = NULL WHERE id = 7"
    review = decide_review(review=held(), reviewer=reviewer, decision="modify", reason="less", statement=better)
    modified = binding(statement=better, meaning=meaning_of(review.facts))
    claim = claim_grant(binding=binding(), statement_id="s1")

    release_grant(claim=claim, statement_id="another")
    assert claim_grant(binding=modified, statement_id="s2") is None
    release_grant(claim=claim, statement_id="s1")
    release_grant(claim=claim, statement_id="s1")

    assert claim_grant(binding=modified, statement_id="s2").statement == better
    assert claim_grant(binding=modified, statement_id="s3") is None


def test_revoked_grant_is_recorded_and_void(reviewer):
    decide_review(review=held(), reviewer=reviewer, decision="approve", reason="yes")
    grant = Grant.objects.get()

    assert revoke_grant(grant=grant, by="admin")
    assert not revoke_grant(grant=grant, by="admin")
    assert claim_grant(binding=binding(), statement_id="s") is None
    assert Review.objects.get().status == "approved"


# --- Versions --------------------------------------------------------------------------------------------------------


def saved(author: str = "ann", **changes):
    policy = Policy.objects.filter(name="writes").first() or Policy(
        name="writes", connections=["clinic"], when={"operation": ["write"]}, action="require_approval",
        reviewers=["privacy-officers"],
    )  # fmt: skip
    for field, value in changes.items():
        setattr(policy, field, value)
    policy.full_clean()
    return save_policy(policy=policy, author=author)


def test_every_change_is_kept_with_its_author():
    saved("ann")
    saved("bob", quorum=2)
    assert saved("eve") is None  # nothing changed
    delete_policy(policy=Policy.objects.get(), author="bob")
    saved("ann")

    versions = PolicyVersion.objects.order_by("number")
    assert [(v.number, v.author, (v.document or {}).get("quorum")) for v in versions] == [
        (1, "ann", 1), (2, "bob", 2), (3, "bob", None), (4, "ann", 1),
    ]  # fmt: skip


def test_rule_knows_its_version_and_author():
    saved("ann")
    saved("bob", quorum=2)

    (rule,) = load_policies()

    assert (rule.label, rule.author, rule.separation) == ("writes@2", "bob", True)


def test_decision_names_versions_and_authors():
    saved("ann")
    other = Policy(name="also", connections=["*"], when={}, action="require_approval", reviewers=["stewards"],
                   separation=False)  # fmt: skip
    save_policy(policy=other, author="bob")

    decision = decide(access_request(WRITE), access_rules=[access_rule(WRITE)], policies=load_policies())

    assert decision.policies == ("also@1", "writes@1")
    assert decision.authors == ("ann",)  # of the policies that keep duties apart


def test_skip_groups_are_not_held_and_gain_nothing_else():
    saved(skip_groups=["ai-agents"])
    doubtful = access_request(WRITE, complete=False)
    rules = {"access_rules": [access_rule(WRITE)], "policies": load_policies()}

    assert isinstance(decide(access_request(WRITE), **rules), Allow)
    assert isinstance(decide(doubtful, **rules), Deny)


def test_terms_are_the_narrowest_of_all_policies():
    saved(grants=["once", "shape", "tables"], grant_for_s=900, max_rows=500, grace_s=60)
    save_policy(
        policy=Policy(name="also", connections=["*"], when={}, action="require_approval", reviewers=["stewards"],
                      grants=["once", "shape", "connection"], grant_for_s=600, max_uses=5),
        author="bob",
    )  # fmt: skip

    decision = decide(access_request(WRITE), access_rules=[access_rule(WRITE)], policies=load_policies())

    assert decision.terms == GrantTerms(scopes=("once", "shape"), for_s=600, max_uses=5, max_rows=500, grace_s=0)


def test_any_group_is_a_choice_of_its_policy():
    saved(reviewers=["a", {"group": "b", "quorum": 2}], reviewers_needed="any")

    assert load_policies()[0].reviewers == (ReviewerGroup("a", 1, "writes"), ReviewerGroup("b", 2, "writes"))


def test_policy_must_permit_at_least_once():
    with pytest.raises(ValidationError) as problem:
        saved(grants=["shape"])

    assert list(problem.value.message_dict) == ["grants"]
