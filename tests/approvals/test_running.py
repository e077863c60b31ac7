"""Approvals on the running product: from mail to masked result in a browser, races for a grant, a gateway killed.

One copy of the product whose mail goes to a real SMTP server in the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from aiosmtpd.controller import Controller
from websockets.sync.client import connect as connect_websocket

from hoopweb.embedded.ports import free_port
from tests.approvals.channels.receiver import receiving
from tests.chromium import running_chromium
from tests.stack import Stack, stack_in

pytestmark = pytest.mark.e2e
T = TypeVar("T")

SETTINGS = {"HOOPWEB_CHANNEL_NETWORKS": "127.0.0.0/8", "HOOPWEB_REVIEW_POLL_S": "600"}
STATEMENTS = "/api/v1/connections/clinic/statements"


@dataclass
class Mailbox:
    """What the SMTP server took, newest last."""

    messages: list[tuple[str, EmailMessage]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.extend((recipient, message) for recipient in envelope.rcpt_tos)
        return "250 OK"

    def to(self, recipient: str, about: str) -> EmailMessage | None:
        found = [m for who, m in self.messages if who == recipient and about in m.as_string()]
        return found[-1] if found else None


@pytest.fixture(scope="module")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture(scope="module")
def product(mailbox: tuple[Mailbox, int]) -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="hoopweb-approvals-"))
    home.chmod(0o755)
    mail = {"HOOPWEB_SMTP_HOST": "127.0.0.1", "HOOPWEB_SMTP_PORT": str(mailbox[1])}
    with stack_in(home, impatient=True, **mail, **SETTINGS) as running:
        running.wait_healthy()
        yield running
    shutil.rmtree(home, ignore_errors=True)


def until(look: Callable[[], T], *, within_s: float = 60) -> T:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return found


def pending(product: Stack, mentions: str = "") -> list[dict[str, Any]]:
    """The pending reviews, or those whose statement has `mentions`: what another test left may be among them."""
    answer = product.rest("GET", "/api/v1/reviews", user="reviewer", params={"status": "pending"})
    found: list[dict[str, Any]] = answer.json()["results"]
    return [each for each in found if not mentions or mentions in json.dumps(review_of(product, each["id"]))]


def review_of(product: Stack, review_id: str) -> dict[str, Any]:
    found: dict[str, Any] = product.rest("GET", f"/api/v1/reviews/{review_id}", user="reviewer").json()
    return found


def decide(product: Stack, review_id: str, user: str = "reviewer", **body: Any) -> Any:
    known = {"decision": "approve", "reason": "needed for the recall"}
    return product.rest("POST", f"/api/v1/reviews/{review_id}/decision", user=user, json=known | body)


def control(product: Stack) -> psycopg.Connection[Any]:
    return psycopg.connect(product.demo["control_dsn"], autocommit=True)


def kinds_of(product: Stack, statement_ids: list[str]) -> list[str]:
    with control(product) as database:
        rows = database.execute(
            "SELECT kind FROM audit_logentry WHERE statement_id = ANY(%s) ORDER BY seq", [statement_ids]
        ).fetchall()
    return [row[0] for row in rows]


def test_mail_leads_to_a_modified_result_in_psql(product: Stack, mailbox: tuple[Mailbox, int], tmp_path: Path) -> None:
    asked = "SELECT id, last_name, state FROM patients"
    better = "SELECT id, last_name, state FROM patients ORDER BY id LIMIT 3"
    token = product.agent_token()
    printed: list[subprocess.CompletedProcess[str]] = []
    waiting = threading.Thread(target=lambda: printed.append(product.psql("-c", asked, token=token, timeout_s=120)))
    waiting.start()
    review = until(lambda: pending(product, asked))[0]
    mail = until(lambda: mailbox[0].to("reviewer@example.org", review["connection"]))
    link = re.search(r"http://\S+/reviews/mail/\S+", mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]
    assert link is not None

    with running_chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(link.group())
        page.fill("input[name=username]", product.demo["users"]["reviewer"]["username"])
        page.fill("input[name=password]", product.demo["users"]["reviewer"]["password"])
        page.press("input[name=password]", "Enter")
        page.wait_for_selector("[data-decide]")
        page.screenshot(path=tmp_path / "review.png", full_page=True)
        page.keyboard.press("e")
        page.fill("[data-edit]", better)
        page.wait_for_selector("[data-preview] .plus")
        page.fill("#reason", "three are enough")
        page.click("text=Approve the changed text", no_wait_after=True)
        waiting.join(60)  # the page renews itself on the decision, so psql is the surer witness
        again = context.new_page()  # the first one may still be renewing itself after the decision
        again.goto(link.group())
        spent = again.inner_text("main")

    assert asked not in mail.as_string()
    assert printed[0].returncode == 0
    assert f"waits for approval (rule bulk-reads): {product.demo['web_url']}/reviews/" in printed[0].stderr
    assert "approved by reviewer: three are enough" in printed[0].stderr
    assert f"What runs now is the reviewer's text: {better}" in printed[0].stderr
    assert "(3 rows)" in printed[0].stdout
    assert "used" in spent or "spent" in spent


def native(product: Stack, token: str, text: str) -> Any:
    with product.connect(token=token) as client:
        return client.execute(text).statusmessage


def over_rest(product: Stack, token: str, text: str) -> Any:
    body = {"statement": text, "wait_s": 60}
    return product.rest("POST", STATEMENTS, token=token, json=body, timeout=90).json()["command_tag"]


def over_websocket(product: Stack, token: str, text: str) -> Any:
    url = product.demo["web_url"].replace("http", "ws", 1) + "/ws/v1/connections/clinic/"
    with connect_websocket(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None) as socket:
        socket.send(json.dumps({"statement": text}))
        for message in socket:
            frame = json.loads(message)
            if frame["type"] == "completed":
                return frame["command_tag"]
    return "closed"


@pytest.mark.parametrize(("surface", "phone"), [(native, 40), (over_rest, 41), (over_websocket, 42)])
def test_held_client_is_told_of_the_decision(
    product: Stack, surface: Callable[[Stack, str, str], Any], phone: int
) -> None:
    """Across processes, and not by looking: the gateway here asks the database every ten minutes only."""
    token = product.agent_token()
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(surface, product, token, f"UPDATE patients SET phone = '555-01{phone}' WHERE id = 50")
        review = until(lambda: pending(product, f"555-01{phone}"))[0]
        assert not client.done()
        assert decide(product, review["id"]).status_code == 200

        assert client.result(60) == "UPDATE 1"


def test_modified_text_is_granted_to_a_prepared_statement_that_cannot_take_it(product: Stack) -> None:
    asked = "UPDATE patients SET phone = %s, state = 'CA' WHERE id = %s"
    better = "UPDATE patients SET phone = $1 WHERE id = $2"
    problems: list[psycopg.Error] = []

    def ask(client: psycopg.Connection[Any]) -> None:
        try:
            client.execute(asked, ["555-0177", 61])
        except psycopg.Error as problem:
            problems.append(problem)

    with product.connect() as client:
        waiting = threading.Thread(target=ask, args=(client,))
        waiting.start()
        review = until(lambda: pending(product, "state = 'CA'"))[0]
        asked_for = review_of(product, review["id"])
        modified = decide(product, review["id"], decision="modify", statement=better)
        waiting.join(60)
        assert modified.status_code == 200, modified.text
        hint = problems[0].diag.message_hint
        done = client.execute("UPDATE patients SET phone = %s WHERE id = %s", ["555-0177", 61])

    assert asked_for["facts"]["estimated_changes"] == 1
    assert hint == "send the modified statement shown in the review; it is approved for you"
    assert done.rowcount == 1
    assert pending(product, "UPDATE patients SET phone = $1") == []


def test_fifty_executions_race_for_one_grant_and_one_runs(product: Stack) -> None:
    """Grants are left by reviews whose client went away; then fifty sessions ask the same thing at once."""
    text = "UPDATE patients SET phone = coalesce(phone, '') || 'x' WHERE id = 71"
    token = product.agent_token()
    with product.direct() as direct:
        direct.execute("UPDATE patients SET phone = '' WHERE id = 71")
    leave_grant(product, token, text)

    def execute(_: int) -> str:
        answer = product.rest("POST", STATEMENTS, token=token, json={"statement": text, "wait_s": 0})
        assert answer.headers["Content-Type"].endswith("json"), (answer.status_code, answer.text)
        return str(answer.json().get("status", answer.json().get("code")))

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(execute, range(50)))
    for review in pending(product):
        decide(product, review["id"], decision="deny")

    with product.direct() as direct:
        assert direct.execute("SELECT phone FROM patients WHERE id = 71").fetchone() == ("x",)
    assert outcomes.count("completed") >= 1  # the one execution; whoever comes back for it collects it, once


def leave_grant(product: Stack, token: str, text: str) -> str:
    """Have `text` approved while its client is gone: hold it in psycopg, stop the gateway's hearing, approve, leave."""
    answer = product.rest("POST", STATEMENTS, token=token, json={"statement": text, "wait_s": 0})
    assert answer.status_code == 202, answer.text
    review_id = str(answer.json()["review"]["id"])
    # Its holder dies before the decision, so that nobody runs it: the grant stays for whoever asks next.
    restart_gateway(product)
    assert decide(product, review_id).status_code == 200
    with control(product) as database:
        database.execute("UPDATE gateway_reststatement SET status = 'failed' WHERE status = 'pending'")
    return review_id


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.by_turns(2)
def test_hold_over_rest_outlives_the_gateway_that_held_it(product: Stack, by: signal.Signals) -> None:
    text = f"UPDATE patients SET phone = '555-0188' WHERE id = 88 AND {int(by)} > 0"
    token = product.agent_token()
    held = product.rest("POST", STATEMENTS, token=token, json={"statement": text, "wait_s": 0}).json()

    restart_gateway(product, by)
    assert decide(product, held["review"]["id"]).status_code == 200

    answered = until(lambda: ended(product, held["id"], token), within_s=120)
    assert (answered["status"], answered["row_count"]) == ("completed", 1)
    assert kinds_of(product, [held["id"]]).count("statement.authorised") == 1


def ended(product: Stack, statement_id: str, token: str) -> dict[str, Any] | None:
    answer = product.rest("GET", f"/api/v1/statements/{statement_id}", token=token).json()
    return None if answer["status"] == "pending" else answer


def test_what_ran_when_its_gateway_died_has_failed_and_does_not_run_again(product: Stack) -> None:
    text = "UPDATE patients SET phone = coalesce(phone, '') || 'z' FROM pg_sleep(120) WHERE id = 89"
    token = product.agent_token()
    held = product.rest("POST", STATEMENTS, token=token, json={"statement": text, "wait_s": 0}).json()
    assert decide(product, held["review"]["id"]).status_code == 200
    runs = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%pg_sleep(120)%%' AND pid <> %s"
    )
    with product.direct() as database:
        until(lambda: database.execute(runs, [database.info.backend_pid]).fetchone() == (1,))

    restart_gateway(product)

    answered = until(lambda: ended(product, held["id"], token), within_s=120)
    assert (answered["status"], answered["problem"]["code"]) == ("failed", "gateway-ended")
    assert kinds_of(product, [held["id"]]).count("statement.authorised") == 1


def restart_gateway(product: Stack, by: signal.Signals = signal.SIGKILL) -> None:
    before = product.pids()["gateway"]
    os.kill(before, by)
    until(lambda: product.pids()["gateway"] != before, within_s=120)
    product.wait_healthy(within_s=120)
    until(lambda: runs_statements(product), within_s=120)  # healthy is what each part says of itself


def runs_statements(product: Stack) -> bool:
    try:
        with product.connect() as client:
            return client.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_gateway_killed_between_claim_and_execution_neither_loses_nor_repeats(product: Stack) -> None:
    text = "UPDATE patients SET phone = coalesce(phone, '') || 'y' WHERE id = 72"
    token = product.agent_token()
    with product.direct() as direct:
        direct.execute("UPDATE patients SET phone = '' WHERE id = 72")
    with control(product) as gate:
        stop_confirmations(gate)
        try:
            lost = product.connect(token=token)
            waiting = ThreadPoolExecutor(1).submit(lost.execute, text)
            review = until(lambda: pending(product, text))[0]
            assert decide(product, review["id"]).status_code == 200
            until(lambda: claims(gate, review["id"]) == ["claimed"])
            restart_gateway(product)
            with pytest.raises(psycopg.OperationalError):
                waiting.result(60)
        finally:
            let_confirmations_pass(gate)
        until(lambda: claims(gate, review["id"]) == ["released"], within_s=120)

    with product.connect(token=token) as client:
        assert client.execute(text).rowcount == 1

    with product.direct() as direct:
        assert direct.execute("SELECT phone FROM patients WHERE id = 72").fetchone() == ("y",)
    with control(product) as database:
        rows = database.execute(
            "SELECT statement_id, state FROM approvals_grantuse u JOIN approvals_grant g ON g.id = u.grant_id "
            "WHERE g.review_id = %s ORDER BY u.at",
            [review["id"]],
        ).fetchall()
    first, second = rows
    assert (first[1], second[1]) == ("released", "confirmed")
    assert "statement.authorised" not in kinds_of(product, [first[0]])
    assert kinds_of(product, [first[0]])[-2:] == ["grant.claimed", "grant.released"]
    until(lambda: "statement.completed" in kinds_of(product, [second[0]]))


def stop_confirmations(gate: psycopg.Connection[Any]) -> None:
    """Keep every confirmation waiting for a lock this test holds: the moment between claim and execution, made long."""
    gate.execute("SELECT pg_advisory_lock(4711)")
    gate.execute(
        "CREATE OR REPLACE FUNCTION test_wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$"
    )
    gate.execute(
        "CREATE TRIGGER test_wait BEFORE UPDATE ON approvals_grantuse FOR EACH ROW "
        "WHEN (NEW.state = 'confirmed') EXECUTE FUNCTION test_wait()"
    )


def let_confirmations_pass(gate: psycopg.Connection[Any]) -> None:
    # Whoever died waiting must not confirm after all: its backend ends first.
    gate.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND query ILIKE '%grantuse%'"
    )
    gate.execute("SELECT pg_advisory_unlock(4711)")
    gate.execute("DROP TRIGGER test_wait ON approvals_grantuse")


def claims(gate: psycopg.Connection[Any], review_id: str) -> list[str]:
    rows = gate.execute(
        "SELECT state FROM approvals_grantuse u JOIN approvals_grant g ON g.id = u.grant_id WHERE g.review_id = %s",
        [review_id],
    )
    return [row[0] for row in rows.fetchall()]


def test_revoking_ends_the_stream_at_once(product: Stack) -> None:
    """The stream goes on for minutes, and who only looks at the database here does so every ten minutes."""
    text = "SELECT id, last_name, pg_sleep(0.05) FROM patients"
    client = product.connect()
    ended: list[psycopg.Error] = []

    def read() -> None:
        try:
            client.execute(text)
        except psycopg.Error as problem:
            ended.append(problem)

    waiting = threading.Thread(target=read, daemon=True)
    waiting.start()
    review = until(lambda: pending(product, "pg_sleep(0.05)"))[0]
    assert decide(product, review["id"]).status_code == 200
    with control(product) as gate:
        until(lambda: claims(gate, review["id"]) == ["confirmed"])
    grants = product.rest("GET", "/api/v1/grants", user="reviewer", params={"usable": "true"}).json()["results"]
    grant = next(grant for grant in grants if grant["review"] == review["id"])
    time.sleep(0.3)
    assert not ended

    revoked = product.rest("POST", f"/api/v1/grants/{grant['id']}/revoke", user="reviewer")
    waiting.join(60)

    assert revoked.status_code == 200
    assert [problem.sqlstate for problem in ended] == ["57P01"]


def test_worker_tells_a_webhook_of_a_held_statement_and_of_its_end(product: Stack, tmp_path: Path) -> None:
    text = "UPDATE patients SET phone = '555-0199' WHERE id = 73"
    with receiving() as receiver:
        channel = {"name": "siem", "kind": "webhook", "url": receiver.url, "secret": {"value": "s" * 32}}
        (tmp_path / "channel.yaml").write_text(json.dumps({"apiVersion": "hoopweb/v1", "channels": [channel]}))
        assert product.manage("apply", "-f", str(tmp_path / "channel.yaml")).returncode == 0
        answer = product.rest("POST", "/api/v1/connections/clinic/statements", json={"statement": text, "wait_s": 0})
        review = answer.json()["review"]["id"]

        def told(event: str) -> bool:
            documents = [json.loads(message.body) for message in list(receiver.received)]
            return any(d["type"] == event and d["data"]["review"] == review for d in documents)

        until(lambda: told("review.opened"), within_s=120)
        assert decide(product, review, decision="deny").is_success
        until(lambda: told("review.ended"), within_s=120)

    assert all(b"555-0199" not in message.body for message in receiver.received)
    assert all(message.headers["webhook-signature"].startswith("v1,") for message in receiver.received)
