"""On the running product: a simulation against enforcing the same statements, and an emergency in native psql."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import yaml

from tests.stack import Stack

pytestmark = pytest.mark.e2e
T = TypeVar("T")

ASKER = f"simulated-{uuid.uuid4().hex[:8]}"  # nobody else's traffic
SETTING: dict[str, Any] = {
    "apiVersion": "hoopweb/v1",
    "groups": [{"name": "emergency-staff", "members": ["reviewer2"]}],
    "access": [{"groups": ["emergency-staff"], "connections": ["clinic"], "operations": ["read", "write"]}],
    "agents": [{"name": ASKER, "groups": ["ai-agents"], "owner": "admin"}],
    "break_glass": [
        {
            "name": "emergency-room",
            "connections": ["clinic"],
            "members": ["reviewer2"],
            "reviewers": ["privacy-officers"],
            "max_statements": 5,
        }
    ],
}
DRAFTS = [
    {"name": "no-claims", "connections": ["clinic"], "when": {"tables": ["public.claims"]}, "action": "deny"},
    {
        "name": "cities-are-asked",
        "connections": ["clinic"],
        "when": {"columns": ["public.patients.city"], "rows_over": 1},
        "action": "require_approval",
        "reviewers": ["privacy-officers"],
    },
    # In the place of the demo's policy of this name: what it held is free.
    {"name": "phi-writes", "connections": ["clinic"], "when": {"kinds": ["DELETE"]}, "action": "deny"},
]
STATEMENTS = [
    "SELECT id, city FROM patients WHERE id = 3",
    "SELECT id, city FROM patients WHERE id < 40 LIMIT 30",
    "SELECT count(*) FROM claims",
    "SELECT id FROM claims WHERE id = 5",
    "SELECT state, count(*) FROM patients GROUP BY state",
    "SELECT id, last_name FROM patients",
    "UPDATE patients SET phone = NULL WHERE id = 90",
    "DELETE FROM claims WHERE id = -1",
    "DELETE FROM patients WHERE id = -1",
    "SELECT p.id FROM patients p JOIN encounters e ON e.patient_id = p.id WHERE p.id = 4",
    "DROP TABLE claims",
    "SELECT ssn FROM patients WHERE ssn = '000-00-0000'",
]


@pytest.fixture(scope="module")
def product(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The session's stack with people, an agent and a roster of our own, put back afterwards."""
    before = tmp_path_factory.mktemp("rules") / "before.yaml"
    assert stack.manage("export", "-o", str(before)).returncode == 0
    applied(stack, SETTING, before.parent)
    yield stack
    restored = yaml.safe_load(before.read_text())
    empty = {section: [] for section in SETTING if section not in restored}
    applied(stack, {**restored, **empty}, before.parent, "--prune")


def applied(stack: Stack, document: dict[str, Any], folder: Path, *flags: str) -> None:
    path = folder / f"{time.monotonic_ns()}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    done = stack.manage("apply", "-f", str(path), *flags)
    assert done.returncode == 0, done.stderr


def until(look: Callable[[], T], *, within_s: float = 90) -> T:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def enforced(product: Stack, text: str) -> str:
    """What really happens to the statement now, as the simulator calls it."""
    token = product.agent_token(ASKER)
    address = "/api/v1/connections/clinic/statements"
    answer = product.rest("POST", address, token=token, json={"statement": text, "wait_s": 0})
    if answer.status_code == 202:
        review = answer.json()["review"]["id"]
        body = {"decision": "deny", "reason": "only asked to see what happens"}
        assert product.rest("POST", f"/api/v1/reviews/{review}/decision", user="reviewer", json=body).is_success
        return "require_approval"
    assert answer.status_code in (200, 403), answer.text
    return "allow" if answer.status_code == 200 else "deny"


def test_simulation_matches_what_enforcing_does_on_the_same_traffic(product: Stack, tmp_path: Path) -> None:
    before = [enforced(product, text) for text in STATEMENTS]
    until(lambda: recorded(product) == len(STATEMENTS))
    path = tmp_path / "draft.yaml"
    path.write_text(yaml.safe_dump(DRAFTS))

    def simulated() -> dict[str, Any] | None:
        done = product.manage("simulate", "-f", str(path), "--days", "1", "--connection", "clinic", "--json")
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        mine = [change for change in result["changes"] if change["subject"] == ASKER]
        return result if sum(change["statements"] for change in mine) else None

    result = until(simulated)
    applied(product, {"apiVersion": "hoopweb/v1", "policies": DRAFTS}, tmp_path)
    after = until(lambda: [enforced(product, text) for text in STATEMENTS] if is_in_force(product) else None)

    predicted: Counter[tuple[str, str]] = Counter()
    for change in result["changes"]:
        if change["subject"] == ASKER:
            predicted[change["before"]["action"], change["after"]["action"]] += change["statements"]
    really = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert really == Counter({pair: n for pair, n in predicted.items() if pair[0] != pair[1]})
    assert len(really) >= 3  # the drafts change enough to compare


def recorded(product: Stack) -> int:
    """How many of the asker's statements the records have with what decided them: some come a moment later."""
    with psycopg.connect(product.demo["control_dsn"]) as control:
        row = control.execute(
            "SELECT count(*) FROM audit_statementrecord t JOIN audit_sessionrecord s ON s.id = t.session_id "
            "WHERE s.subject = %s AND t.inputs <> ''",
            [ASKER],
        ).fetchone()
    return int(row[0]) if row else 0


def is_in_force(product: Stack) -> bool:
    return enforced(product, "SELECT max(id) FROM claims") == "deny"


def test_emergency_in_native_psql_from_breaking_to_finding(product: Stack) -> None:
    asked = "SELECT id, last_name, ssn FROM patients ORDER BY id"
    doctor = product.demo["users"]["reviewer2"]
    dsn = product.gateway_dsn(user=doctor["username"], token=doctor["token"])
    reason = "patient in the emergency room, history needed at once"

    refused = product.rest(
        "POST", "/api/v1/emergencies", user="auditor", json={"connection": "clinic", "reason": reason}
    )
    opened = product.rest(
        "POST", "/api/v1/emergencies", user="reviewer2", json={"connection": "clinic", "reason": reason, "lasts_s": 600}
    )
    assert opened.status_code == 201, opened.text
    address = f"/api/v1/emergencies/{opened.json()['id']}"
    until(lambda: not is_held(product, asked))  # the gateway knows
    with psycopg.connect(dsn, autocommit=True) as session:
        rows = session.execute(asked).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DROP TABLE claims")
        session.execute("SELECT count(*) FROM encounters")
        used = until(lambda: uses(product, address, 3))
        own = product.rest("POST", f"{address}/end", user="reviewer2")
        assert own.is_success
        until(lambda: is_held(product, asked))
    finding = {"finding": "justified", "notes": "the patient was there, the record was needed"}
    itself = product.rest("POST", f"{address}/finding", user="reviewer2", json=finding)
    other = product.rest("POST", f"{address}/finding", user="reviewer", json=finding)

    assert refused.status_code == 403
    assert len(rows) > 100
    assert all(row[2] != "" and row[2].count("-") != 2 for row in rows[:50])  # masks stay
    assert [use["kind"] for use in used] == ["SELECT", "SELECT", "SELECT"]
    assert used[0]["rule"] != ""  # it would have waited for reviewers
    assert (itself.json()["code"], other.json()["finding"]) == ("self-approval", "justified")
    with psycopg.connect(product.demo["control_dsn"]) as control:
        kinds = control.execute("SELECT kind FROM audit_logentry WHERE kind LIKE 'emergency.%' ORDER BY seq").fetchall()
        marked = control.execute(
            "SELECT count(*) FROM audit_statementrecord WHERE emergency = %s", [opened.json()["id"]]
        ).fetchone()
    assert [kind for (kind,) in kinds][-6:] == [
        "emergency.opened",
        "emergency.used",
        "emergency.used",
        "emergency.used",
        "emergency.ended",
        "emergency.reviewed",
    ]
    assert marked == (3,)


def uses(product: Stack, address: str, wanted: int) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = product.rest("GET", address, user="reviewer").json()["uses"]
    done = [use for use in found if use["rows"] is not None]
    return done if len(done) == wanted else None


def is_held(product: Stack, text: str) -> bool:
    """Whether the statement waits for reviewers: asked over REST, so that nobody waits."""
    answer = product.rest(
        "POST",
        "/api/v1/connections/clinic/statements",
        token=product.demo["users"]["reviewer2"]["token"],
        json={"statement": text, "wait_s": 0},
    )
    if answer.status_code != 202:
        return False
    body = {"decision": "deny", "reason": "the emergency is over"}
    review = answer.json()["review"]["id"]
    return product.rest("POST", f"/api/v1/reviews/{review}/decision", user="reviewer", json=body).is_success
