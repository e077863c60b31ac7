"""The simulator: it decides what was recorded as enforcing would, a hundred thousand statements in seconds."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from analysis.statement import ColumnRef, Facts, Operation, RiskAddend, TableRef
from analysis.touch import ProtectedTouch
from approvals.domain import hooks
from approvals.domain.conditions import Condition, Hours
from approvals.domain.decide import Action, decide
from approvals.domain.drafts import draft_rules, read_drafts, try_drafts
from approvals.domain.inputs import input_digest, input_document, request_of
from approvals.domain.policies import save_policy
from approvals.domain.recorded_inputs import InputMemory, store_inputs
from approvals.domain.refusal import Refusal
from approvals.domain.request import Principal, ReviewerGroup
from approvals.domain.simulate import Rules, outcome, simulate, with_draft
from approvals.models import DecisionInput, Policy
from audit.models import LogEntry, StatementRecord
from tests.approvals.factories import READ, WRITE, access_request, access_rule, person, policy
from tests.approvals.test_pages import browser

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]

TABLES = [TableRef("public", name) for name in ("patients", "claims", "encounters", "odd.name")]
COLUMNS = [ColumnRef("public", "patients", name) for name in ("ssn", "mrn", "city", "zip")]
GROUPS = ["ai-agents", "billing", "research"]


def random_request(luck: random.Random):
    """A question of every kind a condition can ask about."""

    def some(of, most=2):
        return frozenset(luck.sample(of, luck.randint(0, min(most, len(of)))))

    operations = some(list(Operation)) or frozenset({READ})
    return access_request(
        *operations,
        phi=luck.random() < 0.8,
        connection=luck.choice(["clinic", "warehouse"]),
        kind=luck.choice(["SELECT", "UPDATE", "COPY_TO", "DELETE"]),
        complete=luck.random() < 0.9,
        problems=("two readings",) if luck.random() < 0.1 else (),
        tables_read=some(TABLES),
        tables_written=some(TABLES, 1),
        reads=some(COLUMNS),
        writes=some(COLUMNS, 1),
        functions=some(["lower", "count", "pg_sleep"]),
        opaque_functions=some(["mystery"], 1) if luck.random() < 0.1 else frozenset(),
        facts=Facts(
            no_where=luck.random() < 0.3,
            export=luck.random() < 0.1,
            row_bound=luck.choice([None, 1, 10, 1000]),
            estimated_rows=luck.choice([None, 5, 500]),
            estimated_bytes=luck.choice([None, 1_000_000]),
            aggregated=luck.random() < 0.1,
        ),
        risk=tuple(RiskAddend("r", points) for points in luck.sample([10, 20, 30], luck.randint(0, 3))),
        touch=ProtectedTouch(
            columns_read=some(COLUMNS),
            columns_written=some(COLUMNS, 1),
            columns_returned=some(COLUMNS),
            classes=some(["ssn", "mrn"]),
            inference_violations=("ssn: comparison with a constant",) if luck.random() < 0.1 else (),
        ),
        principal=Principal(
            subject=luck.choice(["demo-agent", "other-agent"]),
            issuer="https://issuer",
            groups=some(GROUPS),
            owner="admin",
        ),
        at=1_800_000_000 + luck.randint(0, 86_400),
    )


def random_condition(luck: random.Random, depth: int = 0) -> Condition:
    parts = {
        "operation": lambda: frozenset({luck.choice(list(Operation))}),
        "touches_phi": lambda: luck.random() < 0.7,
        "tables": lambda: (luck.choice(["public.patients", "public.c*", "*.odd.name"]),),
        "columns": lambda: (luck.choice(["*.ssn", "public.patients.*"]),),
        "classes": lambda: frozenset({luck.choice(["ssn", "mrn"])}),
        "no_where": lambda: True,
        "export": lambda: True,
        "rows_over": lambda: luck.choice([1, 50, 500]),
        "incomplete": lambda: True,
        "inference": lambda: True,
        "risk_at_least": lambda: luck.choice([20, 50]),
        "principals": lambda: ("demo-*",),
        "groups": lambda: frozenset({luck.choice(GROUPS)}),
        "kinds": lambda: ("COPY_*", "UPDATE"),
        "functions": lambda: ("pg_*",),
        "bytes_over": lambda: 1000,
        "hours": lambda: Hours(start=480, end=1080),
        "all_of": lambda: tuple(random_condition(luck, depth + 1) for _ in range(2)),
        "any_of": lambda: tuple(random_condition(luck, depth + 1) for _ in range(2)),
        "none_of": lambda: (random_condition(luck, depth + 1),),
    }
    usable = list(parts) if depth < 2 else [name for name in parts if not name.endswith("_of")]
    return Condition(**{name: parts[name]() for name in luck.sample(usable, luck.randint(1, 2))})


def random_rules(luck: random.Random) -> Rules:
    rules = [access_rule(*list(Operation), groups=set(GROUPS[: luck.randint(1, 3)]), connections=("*",))]
    policies = [
        policy(luck.choice(list(Action)), f"p{number}", when=random_condition(luck), connections=("*",))
        for number in range(luck.randint(1, 5))
    ]
    return Rules(rules, policies)


def test_recorded_input_is_decided_like_the_statement_itself():
    luck = random.Random(4711)
    actions = Counter()

    for _ in range(3_000):
        request, rules = random_request(luck), random_rules(luck)
        again = request_of(json.loads(json.dumps(input_document(request))), at=request.at)
        decided = decide(request, access_rules=rules.access, policies=rules.policies)

        assert decide(again, access_rules=rules.access, policies=rules.policies) == decided
        actions[type(decided).__name__] += 1

    assert min(actions.values()) > 100  # all three answers were compared


def test_input_holds_nothing_of_the_statement():
    request = access_request(READ, text="select * from patients where ssn = 'CANARY-4711'")

    assert "CANARY" in request.analysis.statement.text  # the control
    assert "CANARY" not in json.dumps(input_document(request))


def test_memory_spells_once_and_keeps_what_differs_apart():
    memory, request = InputMemory(), access_request(READ)
    other = access_request(WRITE)

    first, document = memory.digest_of(request, 1)
    again = memory.digest_of(request, 1)
    elsewhere, second = memory.digest_of(other, 1)
    memory.forget(first)
    retried = memory.digest_of(request, 1)

    assert document is not None
    assert again == (first, None)
    assert (elsewhere != first, second is not None) == (True, True)
    assert retried == (first, document)


# --- Over records ----------------------------------------------------------------------------------------------------


def recorded(requests, *, statements: int) -> None:
    """Statement records in turn over these inputs, spread over the last hour: one row, copied by one INSERT."""
    documents = [input_document(request) for request in requests]
    digests = [input_digest(document) for document in documents]
    store_inputs(dict(zip(digests, documents, strict=True)))
    StatementRecord.objects.create(
        id="one", session_id="s", at=timezone.now(), status="completed", first_seq=0, last_seq=0
    )
    changed = {"id": "'st-' || n", "at": "now() - interval '1 hour' * n / %(statements)s"}
    changed |= {name: f"(%({name})s::text[])[1 + n %% %(distinct)s]" for name in ("inputs", "connection")}
    names = [field.column for field in StatementRecord._meta.fields]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO audit_statementrecord ({', '.join(names)})"
            f" SELECT {', '.join(changed.get(name, 'one.' + name) for name in names)}"
            " FROM audit_statementrecord AS one, generate_series(0, %(statements)s - 1) AS n WHERE one.id = 'one'",
            {
                "statements": statements,
                "distinct": len(digests),
                "inputs": digests,
                "connection": [request.resource.connection for request in requests],
            },
        )
    StatementRecord.objects.filter(id="one").delete()


def test_hundred_thousand_statements_in_seconds_as_enforcing_would():
    luck = random.Random(7)
    requests = list({input_digest(input_document(r)): r for r in (random_request(luck) for _ in range(2_500))}.values())
    statements = 100_000
    recorded(requests, statements=statements)
    today = random_rules(luck)
    draft = policy(Action.REQUIRE_APPROVAL, "draft", when=Condition(touches_phi=True, rows_over=50), connections=("*",))
    then = Rules(today.access, with_draft(today.policies, drafts=[draft]))
    enforced: Counter[tuple[str, str]] = Counter()
    for number in range(statements):
        request = requests[number % len(requests)]
        if number < len(requests):
            answers = outcome(request, today).action, outcome(request, then).action
            enforced[answers] += len(range(number, statements, len(requests)))

    began = time.perf_counter()
    result = simulate(now=today, draft=then, days=1)
    seconds = time.perf_counter() - began

    assert result.statements == statements
    assert {(before, after): n for before, after, n in result.matrix if n} == dict(enforced)
    assert sum(n for (before, after), n in enforced.items() if before != after) <= result.changed
    assert 0 < result.changed < statements
    assert seconds < 60  # a second or two on an idle machine


def test_time_of_day_is_that_of_the_statement():
    recorded([access_request(READ)], statements=10)
    moment = timezone.now()
    now = moment.hour * 60 + moment.minute
    rules = [access_rule(READ)]
    lately = Hours(start=(now - 90) % 1440, end=(now + 1) % 1440)
    earlier = Hours(start=(now - 600) % 1440, end=(now - 300) % 1440)

    def changed(hours: Hours) -> int:
        draft = policy(Action.DENY, "draft", when=Condition(hours=hours))
        return simulate(now=Rules(rules, []), draft=Rules(rules, [draft]), days=1).changed

    assert (changed(lately), changed(earlier)) == (10, 0)


def test_period_connection_and_examples():
    recorded([access_request(READ), access_request(READ, connection="warehouse")], statements=20)
    StatementRecord.objects.filter(id__in=["st-0", "st-1"]).update(at=timezone.now() - timedelta(days=3))
    rules = [access_rule(READ, connections=("*",))]
    draft = Rules(rules, [policy(Action.DENY, "draft", connections=("*",))])

    all_of_it = simulate(now=Rules(rules, []), draft=draft, days=7)
    day = simulate(now=Rules(rules, []), draft=draft, days=1)
    here = simulate(now=Rules(rules, []), draft=draft, days=1, on_connection="warehouse")

    assert (all_of_it.changed, day.changed, here.changed) == (20, 18, 9)
    assert here.changes[0].examples == ("st-3", "st-5", "st-7")
    assert (here.changes[0].before.action, here.changes[0].after.action) == ("allow", "deny")


def test_inputs_that_are_gone_are_counted_as_unknown():
    recorded([access_request(READ)], statements=5)
    DecisionInput.objects.all().delete()

    result = simulate(now=Rules([], []), draft=Rules([], []), days=1)

    assert (result.statements, result.unknown) == (0, 5)


# --- Drafts, page, REST, command -------------------------------------------------------------------------------------

DRAFT = """
name: reads
connections: [clinic]
when: {operation: [read]}
action: require_approval
reviewers: [privacy-officers]
"""


@pytest.fixture
def traffic(db):
    hooks.register(access_rules=lambda: (access_rule(READ, WRITE),))
    recorded([access_request(READ), access_request(WRITE, kind="UPDATE")], statements=20)


@pytest.fixture
def author(db):
    return person("author", is_superuser=True)


def test_drafts_are_read_like_policies():
    (rule,) = read_drafts(DRAFT)
    (listed,) = read_drafts(f"policies:\n- {json.dumps({'name': 'x', 'connections': ['*'], 'action': 'deny'})}")

    assert (rule.name, rule.reviewers) == ("reads", (ReviewerGroup("privacy-officers"),))
    assert (listed.name, listed.action) == ("x", Action.DENY)
    assert draft_rules([{"name": "x", "connections": ["*"], "action": "deny", "enabled": False}]) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not YAML"),
        ("42", "expected a policy"),
        ("a: &a [1]\nb: [*a, *a]", "alias"),
        ("[1]", "expected a mapping"),
        ("name: x\naction: deny\nconnections: ['*']\nwhn: {}", "whn: is not a known key"),
        ("name: x\naction: explode\nconnections: ['*']", "action"),
        ("name: x\naction: deny\nconnections: ['*']\nwhen: {rows_over: many}", "rows_over"),
        ("name: x\naction: require_approval\nconnections: ['*']", "reviewers"),
        ("name: x\naction: deny\nconnections: 5", "another type"),
        ("name: x\naction: deny\nconnections: ['*']\nquorum: lots", "quorum"),
    ],
)
def test_bad_drafts_are_named_by_their_place(text, words):
    with pytest.raises(Refusal, match=words):
        read_drafts(text)


def test_page_shows_what_would_change_and_records_the_look(traffic, author):
    shown = browser(author).get(reverse("approvals:simulator"))
    answer = browser(author).post(reverse("approvals:simulator"), {"draft": DRAFT, "days": 7, "connection": ""})
    wrong = browser(author).post(reverse("approvals:simulator"), {"draft": "name: [", "days": 7})
    outsider = browser(person("outsider", "privacy-officers")).get(reverse("approvals:simulator"))

    assert shown.status_code == 200
    assert "10 of 20 statements would be decided otherwise" in answer.text
    assert (wrong.status_code, outsider.status_code) == (400, 403)
    entry = json.loads(bytes(LogEntry.objects.get(kind="policy.simulated").canonical))["body"]
    assert (entry["subject"], entry["policies"], entry["changed"]) == ("author", ["reads"], 10)
    assert not Policy.objects.exists()


def test_page_fills_in_a_policy_that_is_there(author):
    save_policy(policy=Policy(name="reads", connections=["clinic"], action="deny", max_uses=3), author="x")

    text = browser(author).get(reverse("approvals:simulator") + "?policy=reads").text

    assert "name: reads" in text
    assert "max_uses: 3" in text


def test_rest_and_command_say_the_same(traffic, author, tmp_path):
    document = {"name": "reads", "connections": ["clinic"], "when": {"operation": ["read"]}, "action": "deny"}
    (tmp_path / "draft.yaml").write_text(json.dumps(document))
    address = reverse("api-policies-simulate")

    rest = browser(author).post(address, {"policies": [document]}, content_type="application/json").json()
    bad = browser(author).post(address, {"policies": [{"name": 5}]}, content_type="application/json")
    foreign = browser(person("other")).post(address, {"policies": [document]}, content_type="application/json")
    said, spoken = StringIO(), StringIO()
    call_command("simulate", "-f", str(tmp_path / "draft.yaml"), "--json", stdout=said)
    call_command("simulate", "-f", str(tmp_path / "draft.yaml"), stdout=spoken)

    assert (rest["changed"], json.loads(said.getvalue())["changed"]) == (10, 10)
    assert "10 of 20 statements would be decided otherwise" in spoken.getvalue()
    assert "allow (agents) → deny (reads)" in spoken.getvalue()
    assert (bad.status_code, foreign.status_code) == (400, 404)
    with pytest.raises(CommandError, match="no policy"):
        call_command("simulate", "--without", "nothing")


def test_leaving_a_policy_out(traffic):
    save_policy(
        policy=Policy(name="no-reads", connections=["clinic"], when={"operation": ["read"]}, action="deny"), author="x"
    )

    result = try_drafts(drafts=(), without=["no-reads"], days=1, on_connection="", by="x")

    assert [(c.before.action, c.after.action, c.statements) for c in result.changes] == [("deny", "allow", 10)]
