"""Grants wider than once: what they cover and what they do not, counted, in time, given back, revoked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from analysis.estimate import RowsExpected
from analysis.statement import Analysis, ColumnRef, Facts, Operation, TableRef
from approvals.domain.grant import (
    claim_grant,
    confirm_grant,
    end_use,
    grant_stands,
    release_grant,
    release_stale_claims,
    revoke_grant,
)
from approvals.domain.reach import Reach
from approvals.domain.refusal import Refusal
from approvals.domain.request import AccessRequest, GrantTerms, RequireApproval, ReviewerGroup
from approvals.domain.review import decide_review, open_review
from approvals.domain.scope import Asked, Scope
from approvals.models import Grant, GrantUse
from audit.models import LogEntry
from tests.approvals.factories import OFFICERS, PATIENTS, UPDATE, binding, person, write_request

pytestmark = pytest.mark.django_db(transaction=True)

EVERY = GrantTerms(scopes=("once", "shape", "tables", "connection"), for_s=1800, max_uses=3)
OTHER_VALUES = "UPDATE patients SET phone = '555-0199' WHERE id = 8"


def require(terms: GrantTerms = EVERY, rule: str = "phi-writes", groups=(OFFICERS,)) -> RequireApproval:
    return RequireApproval(rule=rule, reason="needs a reviewer", reviewers=groups, terms=terms)


def held(terms: GrantTerms = EVERY, request: AccessRequest | None = None, **changes):
    return open_review(
        request=request or write_request(),
        binding=binding(**changes),
        decision=require(terms),
        session_id="session-1",
        statement_id="stmt-1",
    )


def approve(review, reviewer, scope: Scope = Scope.ONCE, for_s: int = 0):
    return decide_review(
        review=review, reviewer=reviewer, decision="approve", reason="yes", reach=Reach(scope=scope, for_s=for_s)
    )


def asks(decision: RequireApproval | None = None, **changes) -> Asked:
    """What a later statement of the same agent is; `changes` are of its analysis."""
    request = write_request()
    analysis: Analysis = replace(request.analysis, **changes)
    return Asked.by(replace(request, analysis=analysis), decision or require())


def claim(asked: Asked | None = None, statement_id: str = "later", **changes):
    known = {"statement": OTHER_VALUES} | changes
    return claim_grant(
        binding=binding(**known), statement_id=statement_id, session_id="session-2", asked=asked or asks()
    )


@pytest.mark.parametrize("scope", [Scope.SHAPE, Scope.TABLES, Scope.CONNECTION])
def test_wider_grant_covers_other_values(reviewer, scope):
    approve(held(), reviewer, scope)

    claimed = claim()

    assert claimed is not None
    assert (claimed.statement, claimed.modified_from) == (OTHER_VALUES, None)


def test_grant_for_once_covers_nothing_else(reviewer):
    approve(held(), reviewer)

    assert claim() is None
    assert claim_grant(binding=binding(), statement_id="s", asked=asks()) is not None


OTHER_SHAPE = {"fingerprint": "e" * 16}
OTHER_TABLE = {**OTHER_SHAPE, "tables_written": frozenset({TableRef("public", "claims")})}
ALSO_READS = {**OTHER_SHAPE, "tables_read": frozenset({TableRef("public", "claims")})}


@pytest.mark.parametrize(
    ("scope", "changes", "covered"),
    [
        (Scope.SHAPE, OTHER_SHAPE, False),
        (Scope.TABLES, OTHER_SHAPE, True),
        (Scope.TABLES, OTHER_TABLE, False),
        (Scope.TABLES, ALSO_READS, False),
        (Scope.TABLES, {**OTHER_SHAPE, "tables_written": frozenset()}, False),
        (Scope.CONNECTION, OTHER_TABLE, True),
        (Scope.CONNECTION, {"operations": frozenset({Operation.READ})}, False),
        (Scope.CONNECTION, {"operations": frozenset({Operation.WRITE, Operation.DDL})}, False),
        (Scope.CONNECTION, {"operations": frozenset()}, False),
        (Scope.CONNECTION, {"complete": False}, False),
        (Scope.CONNECTION, {"opaque_functions": frozenset({"public.f"})}, False),
        (Scope.SHAPE, {"complete": False}, False),
    ],
)
def test_wider_grant_ends_where_its_scope_ends(reviewer, scope, changes, covered):
    approve(held(), reviewer, scope)

    assert (claim(asks(**changes)) is not None) == covered


@pytest.mark.parametrize(
    "changes",
    [
        {"principal_subject": "other-agent"},
        {"principal_issuer": "https://elsewhere"},
        {"principal_actor": "tool"},
        {"connection": "warehouse"},
        {"role": "postgres"},
        {"search_path": "pg_temp, public"},
        {"rules": "digest-2"},
        {"governed_as": "DELETE FROM patients"},
    ],
)
def test_widest_grant_is_for_its_requester_there_and_under_its_rules(reviewer, changes):
    approve(held(), reviewer, Scope.CONNECTION)

    assert claim(**changes) is None
    assert claim() is not None


def test_wider_grant_gives_nothing_that_needs_other_reviewers(reviewer):
    approve(held(), reviewer, Scope.CONNECTION)

    stewards = ReviewerGroup("data-stewards")
    assert claim(asks(require(groups=(OFFICERS, stewards)))) is None
    assert claim(asks(require(groups=(ReviewerGroup("privacy-officers", 2),)))) is None


def test_shape_held_for_another_rule_asks_again(reviewer):
    approve(held(), reviewer, Scope.SHAPE)

    assert claim(asks(require(rule="phi-writes, inference"))) is None


def test_uses_are_counted_and_end(reviewer):
    approve(held(), reviewer, Scope.SHAPE)

    claims = [claim(statement_id=f"s{n}") for n in range(5)]

    assert [found is not None for found in claims] == [True, True, True, False, False]


def expects(rows: int | None) -> Asked:
    return replace(asks(), rows=rows)


def test_rows_are_counted_and_end(reviewer):
    approve(held(replace(EVERY, max_rows=100)), reviewer, Scope.SHAPE)
    first = claim(expects(50), statement_id="s1")
    confirm_grant(claim=first, statement_id="s1")

    end_use(claim=first, statement_id="s1", rows=60)
    end_use(claim=first, statement_id="s1", rows=60)  # told twice, counted once

    assert Grant.objects.get().rows_used == 60
    assert claim(expects(50), statement_id="s2") is None  # there is room for 40
    assert claim(expects(40), statement_id="s3") is not None


def test_rows_of_running_executions_are_reserved(reviewer):
    """Ten at once may not each believe that all the rows are theirs."""
    approve(held(replace(EVERY, max_rows=100, max_uses=50)), reviewer, Scope.SHAPE)
    asked = expects(30)

    with ThreadPoolExecutor(10) as pool:
        claims = list(pool.map(lambda n: in_own_connection(lambda: claim(asked, statement_id=f"s{n}")), range(10)))

    running = [given for given in claims if given is not None]
    assert len(running) == 3
    assert Grant.objects.get().rows_reserved == 90
    uses = list(GrantUse.objects.values_list("statement_id", flat=True))
    confirm_grant(claim=running[0], statement_id=uses[0])
    end_use(claim=running[0], statement_id=uses[0], rows=10)
    release_grant(claim=running[0], statement_id=uses[1])
    grant = Grant.objects.get()
    assert (grant.rows_used, grant.rows_reserved) == (10, 30)
    assert claim(asked, statement_id="later") is not None


def test_nobody_knows_before_how_many_rows_a_write_changes():
    """It returns none, which says nothing: counted as none it would fit under every cap."""
    bounded = {"facts": Facts(row_bound=0)}

    assert asks(operations=frozenset({Operation.READ}), **bounded).rows == 0  # control: a read is what it says
    assert asks(operations=frozenset({Operation.READ, Operation.WRITE}), **bounded).rows is None


def test_write_that_fills_the_cap_is_the_last_one(reviewer):
    approve(held(replace(EVERY, max_rows=100)), reviewer, Scope.SHAPE)
    first = claim(statement_id="s1")
    confirm_grant(claim=first, statement_id="s1")
    assert claim(statement_id="s2") is None  # not beside the first: it may take all that is left

    end_use(claim=first, statement_id="s1", rows=5_000)

    assert claim(statement_id="s3") is None


def test_rows_nobody_can_tell_take_all_that_is_left(reviewer):
    approve(held(replace(EVERY, max_rows=100)), reviewer, Scope.SHAPE)
    unknown = asks(facts=Facts(row_bound=None))

    first, second = claim(unknown, statement_id="s1"), claim(unknown, statement_id="s2")
    confirm_grant(claim=first, statement_id="s1")
    end_use(claim=first, statement_id="s1", rows=5)

    assert (first is not None, second) == (True, None)
    assert claim(unknown, statement_id="s3") is not None


HIDDEN_WRITE = {"facts": Facts(row_bound=1, uncounted=True)}


def test_rows_nobody_can_count_are_not_for_a_capped_grant(reviewer):
    """`WITH gone AS (DELETE …) SELECT 1` says "SELECT 1": the cap would never fill."""
    approve(held(replace(EVERY, max_rows=100)), reviewer, Scope.TABLES)

    assert claim(asks(**HIDDEN_WRITE), statement_id="s1") is None
    assert claim(asks(), statement_id="s2") is not None  # control: its tag counts


def test_rows_nobody_can_count_are_for_a_grant_without_a_cap(reviewer):
    approve(held(), reviewer, Scope.TABLES)

    assert claim(asks(**HIDDEN_WRITE)) is not None


@pytest.mark.parametrize(("changes", "covered"), [(101, False), (100, True)])
def test_write_that_is_expected_to_change_more_than_is_left_asks_again(reviewer, changes, covered):
    approve(held(replace(EVERY, max_rows=100)), reviewer, Scope.SHAPE)
    request = write_request()

    asked = Asked.by(request, require(), RowsExpected(changed=changes))

    assert (claim(asked) is not None) == covered
    assert Grant.objects.get().rows_reserved == (100 if covered else 0)  # an estimate: what it really takes may be all


def test_capped_approval_of_what_nobody_can_count_is_for_once(reviewer):
    capped = replace(EVERY, max_rows=100)
    request = write_request(facts=Facts(row_bound=1, uncounted=True))

    with pytest.raises(Refusal, match="nobody can count"):
        approve(held(capped, request), reviewer, Scope.SHAPE)
    approve(held(EVERY, request, statement="other"), reviewer, Scope.SHAPE)  # control: without a cap


def test_grace_ends_with_the_first_execution_nobody_can_count(reviewer):
    approve(held(replace(EVERY, max_rows=100, grace_s=600)), reviewer)
    known = {"statement": UPDATE}
    first = claim(asks(**HIDDEN_WRITE), statement_id="s1", **known)
    confirm_grant(claim=first, statement_id="s1")

    end_use(claim=first, statement_id="s1", rows=None)

    assert Grant.objects.get().rows_used == 100
    assert claim(asks(**HIDDEN_WRITE), statement_id="s2", **known) is None


def test_grace_goes_on_where_rows_are_counted(reviewer):
    """Control of the one before."""
    approve(held(replace(EVERY, max_rows=100, grace_s=600)), reviewer)
    first = claim(statement_id="s1", statement=UPDATE)
    confirm_grant(claim=first, statement_id="s1")

    end_use(claim=first, statement_id="s1", rows=1)

    assert claim(statement_id="s2", statement=UPDATE) is not None


def in_own_connection(call):
    try:
        return call()
    finally:
        connection.close()


def test_exact_request_ends_at_the_row_cap_as_well(reviewer):
    approve(held(replace(EVERY, max_rows=10, grace_s=600)), reviewer)
    first = claim_grant(binding=binding(), statement_id="s1")

    end_use(claim=first, statement_id="s1", rows=10)

    assert claim_grant(binding=binding(), statement_id="s2") is None


def test_time_box_is_what_the_reviewer_chose(reviewer):
    approve(held(), reviewer, Scope.SHAPE, 300)

    left_s = (Grant.objects.get().expires_at - timezone.now()).total_seconds()
    assert 290 < left_s <= 300
    Grant.objects.update(expires_at=timezone.now())
    assert claim() is None


@pytest.mark.parametrize(
    ("terms", "reach"),
    [(GrantTerms(), Reach(Scope.SHAPE)), (EVERY, Reach(Scope.SHAPE, 1801)), (GrantTerms(), Reach(Scope.CONNECTION))],
)
def test_reach_beyond_the_policy_is_refused(reviewer, terms, reach):
    review = held(terms)

    with pytest.raises(Refusal) as refused:
        decide_review(review=review, reviewer=reviewer, decision="approve", reason="yes", reach=reach)

    assert refused.value.code == "reach-too-wide"


def test_what_cannot_be_read_runs_once_or_not_at_all(reviewer):
    review = held(request=write_request(complete=False))

    with pytest.raises(Refusal):
        approve(review, reviewer, Scope.TABLES)
    approve(review, reviewer)

    assert Grant.objects.get().scope == "once"


def test_narrowest_of_all_votes_counts(reviewer, reviewer2):
    review = open_review(
        request=write_request(),
        binding=binding(),
        decision=require(groups=(ReviewerGroup("privacy-officers", 2),)),
        session_id="s",
        statement_id="s",
    )
    approve(review, reviewer, Scope.CONNECTION, 1200)
    approve(review, reviewer2, Scope.TABLES, 600)

    grant = Grant.objects.get()
    assert grant.scope == "tables"
    assert (grant.expires_at - timezone.now()).total_seconds() <= 600


def test_reach_edited_in_the_database_grants_nothing(reviewer):
    approve(held(), reviewer, Scope.SHAPE)
    grant = Grant.objects.get()

    Grant.objects.update(scope="connection", reach={**grant.reach, "scope": "connection"})

    assert claim(asks(**OTHER_SHAPE)) is None  # the sealed reach says shape
    assert claim() is not None


# --- Grace -----------------------------------------------------------------------------------------------------------


def test_ten_connections_ask_once_within_the_grace_period(reviewer):
    approve(held(replace(EVERY, grace_s=60, max_uses=10)), reviewer)

    claims = [claim_grant(binding=binding(), statement_id=f"s{n}") for n in range(11)]

    assert [found is not None for found in claims] == [True] * 10 + [False]


def test_grace_begins_with_the_first_execution_and_ends(reviewer):
    approve(held(replace(EVERY, grace_s=60)), reviewer)
    claim_grant(binding=binding(), statement_id="s1")

    grant = Grant.objects.get()
    assert 5 < (grant.expires_at - timezone.now()).total_seconds() <= 60
    Grant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert claim_grant(binding=binding(), statement_id="s2") is None


def test_grace_is_for_the_same_statement_only(reviewer):
    approve(held(replace(EVERY, grace_s=60)), reviewer)
    claim_grant(binding=binding(), statement_id="s1")

    assert claim(statement_id="s2") is None
    assert claim_grant(binding=binding(parameters=(b"8", None)), statement_id="s3") is None


# --- Claimed, confirmed, given back ----------------------------------------------------------------------------------


def test_claim_of_a_gateway_that_died_is_given_back(reviewer):
    approve(held(), reviewer)
    lost = claim_grant(binding=binding(), statement_id="lost")
    assert claim_grant(binding=binding(), statement_id="early") is None
    GrantUse.objects.update(at=timezone.now() - timedelta(seconds=60))

    again = claim_grant(binding=binding(), statement_id="again")

    assert again is not None
    assert not confirm_grant(claim=lost, statement_id="lost")  # should the gateway not be dead after all
    assert confirm_grant(claim=again, statement_id="again")
    released = LogEntry.objects.get(kind="grant.released")
    assert released.statement_id == "lost"


def test_confirmed_use_is_never_given_back(reviewer):
    approve(held(), reviewer)
    claimed = claim_grant(binding=binding(), statement_id="s1")
    assert confirm_grant(claim=claimed, statement_id="s1")
    GrantUse.objects.update(at=timezone.now() - timedelta(seconds=60))

    release_grant(claim=claimed, statement_id="s1")

    assert release_stale_claims() == 0
    assert claim_grant(binding=binding(), statement_id="s2") is None


def test_revoking_between_claim_and_execution_stops_it(reviewer):
    approve(held(), reviewer)
    claimed = claim_grant(binding=binding(), statement_id="s1", session_id="session-2")

    revoke_grant(grant=Grant.objects.get(), by="admin")

    assert not confirm_grant(claim=claimed, statement_id="s1")


def test_revoking_is_seen_of_what_is_spent_already(reviewer):
    approve(held(), reviewer)
    claimed = claim_grant(binding=binding(), statement_id="s1", session_id="session-2")
    assert confirm_grant(claim=claimed, statement_id="s1")
    stood = grant_stands(claim=claimed)

    revoke_grant(grant=Grant.objects.get(), by="admin")

    assert (stood, grant_stands(claim=claimed)) == (True, False)


def test_revoking_ends_the_sessions_that_still_run_under_it(reviewer, monkeypatch):
    killed = []
    monkeypatch.setattr("approvals.domain.grant.announce_kill", lambda *, session_id: killed.append(session_id))
    approve(held(), reviewer, Scope.SHAPE)
    for number in (1, 2, 3):
        found = claim_grant(binding=binding(), statement_id=f"s{number}", session_id=f"session-{number}", asked=asks())
        confirm_grant(claim=found, statement_id=f"s{number}")
    end_use(claim=found, statement_id="s3", rows=1)

    assert revoke_grant(grant=Grant.objects.get(), by="admin")
    assert not revoke_grant(grant=Grant.objects.get(), by="admin")

    assert killed == ["session-1", "session-2"]


# --- Separation of duties --------------------------------------------------------------------------------------------


def test_policy_author_alone_cannot_approve(reviewer, reviewer2):
    decision = replace(require(), authors=("reviewer",), policies=("phi-writes@2",))
    review = open_review(
        request=write_request(), binding=binding(), decision=decision, session_id="s", statement_id="s"
    )

    assert approve(review, reviewer).status == "pending"
    assert approve(review, reviewer2).status == "approved"


def test_author_may_deny_alone(reviewer):
    decision = replace(require(), authors=("reviewer",))
    review = open_review(
        request=write_request(), binding=binding(), decision=decision, session_id="s", statement_id="s"
    )

    denied = decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")

    assert denied.status == "denied"


def test_any_of_two_groups_is_enough(reviewer):
    groups = (ReviewerGroup("privacy-officers", 1, "p"), ReviewerGroup("data-stewards", 1, "p"))
    review = open_review(
        request=write_request(), binding=binding(), decision=require(groups=groups), session_id="s", statement_id="s"
    )

    assert approve(review, person("steward", "data-stewards")).status == "approved"


def test_facts_say_which_tables(reviewer):
    """The factory's statement writes patients; the control for the tables above."""
    assert write_request().analysis.tables_written == frozenset({PATIENTS})
    assert write_request().analysis.writes == frozenset({ColumnRef("public", "patients", "ssn")})
    assert UPDATE != OTHER_VALUES


@pytest.mark.parametrize("scope", [Scope.ONCE, Scope.CONNECTION])
def test_approval_of_a_clock_that_was_ahead_is_void(reviewer, scope):
    approve(held(), reviewer, scope)
    grant, in_a_year = Grant.objects.get(), timedelta(days=365)
    Grant.objects.update(created_at=grant.created_at + in_a_year, expires_at=grant.expires_at + in_a_year)

    assert claim(statement=UPDATE) is None
    Grant.objects.update(created_at=grant.created_at, expires_at=grant.expires_at)
    assert claim(statement=UPDATE) is not None
