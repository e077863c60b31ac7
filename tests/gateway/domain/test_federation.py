"""Federation rules against claims as the platforms publish them: what matches, and what must never."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.federation import PRESETS, federation_problem, matches

GITHUB = "https://token.actions.githubusercontent.com"
# The claims of docs.github.com's example token.
ACTIONS = {
    "iss": GITHUB,
    "sub": "repo:example/reports:ref:refs/heads/main",
    "aud": "hoopweb",
    "repository": "example/reports",
    "repository_id": "74",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "environment": "prod",
    "job_workflow_ref": "example/reports/.github/workflows/nightly.yml@refs/heads/main",
    "run_id": "1530679972",
    "event_name": "push",
}
KUBERNETES = {
    "sub": "system:serviceaccount:research:cohorts",
    "kubernetes.io": {
        "namespace": "research",
        "serviceaccount": {"name": "cohorts", "uid": "00000000-0000-0000-0000-000000000001"},
    },
}


def rule(issuer: str = GITHUB, **claims: str) -> dict[str, Any]:
    return {"issuer": issuer, "claims": claims}


def met(claims: dict[str, Any], *rules: dict[str, Any], issuer: str = GITHUB) -> bool:
    return matches(rules, issuer=issuer, claims=claims)


def test_every_claim_of_a_rule_must_be_so() -> None:
    assert met(ACTIONS, rule(repository="example/reports", ref="refs/heads/main"))
    assert not met(ACTIONS, rule(repository="example/reports", ref="refs/heads/other"))
    assert not met({**ACTIONS, "repository": "example/reports-fork"}, rule(repository="example/reports"))
    assert not met(ACTIONS, rule(repository="example/reports", absent="x"))


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("refs/heads/release-*", "refs/heads/release-1.2", True),
        ("refs/heads/*", "refs/heads/feature/x", False),  # one star stays within its part
        ("refs/heads/**", "refs/heads/feature/x", True),
        ("refs/heads/*", "refs/tags/v1", False),
        ("refs/heads/main", "refs/heads/main\n", False),
        ("refs/heads/main", "Refs/heads/main", False),
        ("v1.2", "v1x2", False),  # a dot is a dot
    ],
)
def test_globs_stay_within_their_part(pattern: str, value: str, expected: bool) -> None:
    asked = rule(repository="example/reports", ref=pattern)

    assert met({**ACTIONS, "ref": value}, asked) is expected


def test_star_in_a_subject_does_not_reach_another_part() -> None:
    """`repo:example/*` of a wildcard that matched everything would match a branch that is named to look like it."""
    asked = rule(sub="repo:example/*:ref:refs/heads/main", event_name="push")

    assert met(ACTIONS, asked)
    forged = {**ACTIONS, "sub": "repo:example/evil:environment:x:ref:refs/heads/main"}
    assert not met(forged, asked)
    assert met(forged, rule(sub="repo:example/**", event_name="push"))  # the control: only two stars do


def test_nested_claims_are_named_by_path() -> None:
    cluster = "https://kubernetes.default.svc"

    asked = rule(cluster, **{"kubernetes.io/namespace": "research", "kubernetes.io/serviceaccount/name": "cohorts"})

    assert met(KUBERNETES, asked, issuer=cluster)
    assert not met({**KUBERNETES, "kubernetes.io": {"namespace": "other"}}, asked, issuer=cluster)
    assert not met({**KUBERNETES, "kubernetes.io": "research"}, asked, issuer=cluster)


def test_only_text_lists_of_text_and_truth_values_can_match() -> None:
    google = "https://accounts.google.com"

    assert met({"sub": "1", "email_verified": True}, rule(google, sub="1", email_verified="true"), issuer=google)
    assert not met({"sub": "1", "email_verified": False}, rule(google, sub="1", email_verified="true"), issuer=google)
    assert met({"sub": "1", "roles": ["a", "b"]}, rule(google, sub="1", roles="b"), issuer=google)
    assert not met({"sub": 1}, rule(google, sub="1"), issuer=google)
    assert not met({"sub": {"sub": "1"}}, rule(google, sub="1"), issuer=google)
    assert not met({"sub": ["x", ["1"]]}, rule(google, sub="1"), issuer=google)


@pytest.mark.parametrize(
    "issuer", [f"{GITHUB}/", GITHUB.upper(), GITHUB.replace("https", "http"), GITHUB.replace("o", "\u043e"), ""]
)
def test_issuers_that_look_alike_are_others(issuer: str) -> None:
    assert met(ACTIONS, rule(repository="example/reports"))
    assert not met(ACTIONS, rule(repository="example/reports"), issuer=issuer)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        [{}],
        [{"issuer": GITHUB, "claims": {}}],
        [{"issuer": "", "claims": {"sub": "x"}}],
        [rule(sub="**")],
        [rule(repository="example/*", ref="*")],  # nothing is exact
        [rule(repository="")],
        [rule(iss=GITHUB)],
        [rule(exp="1")],
        [{**rule(sub="x"), "audience": "y"}],
        [rule(sub="x")] * 21,
        [{"issuer": GITHUB, "claims": {"sub": 1}}],
    ],
)
def test_rule_that_could_mean_anybody_is_refused_in_words_and_matches_nobody(rules: Any) -> None:
    assert federation_problem(rules)
    if isinstance(rules, list) and len(rules) == 1 and "issuer" in rules[0]:
        assert not met({**ACTIONS, "exp": "1"}, *rules)


def test_presets_make_rules_and_issuers() -> None:
    for preset in PRESETS.values():
        issuer = preset.at("https://idp.example.org/" if preset.place else "")
        assert issuer["jwks_uri"].startswith("https://")
        assert "{place}" not in issuer["issuer"] + issuer["jwks_uri"]
        asked = {name: example for name, example in preset.claims if example}
        assert federation_problem([{"issuer": issuer["issuer"], "claims": asked}]) == ""
