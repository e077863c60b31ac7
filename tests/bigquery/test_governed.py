"""What governs a query: reviews that hold it, rules that deny it, the record of it; and other ways to ask."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.auth import identity_pool, pluggable
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

from tests.bigquery.conftest import CONNECTION, DATASET
from tests.bigquery.service import PROJECT, Service
from tests.stack import Stack

SCOPE = "https://www.googleapis.com/auth/bigquery"
TABLE = f"{DATASET}.patients"
HIDDEN = "[REDACTED]"
MARK = time.time_ns() % 1_000_000  # new with every run: no grant of an earlier one fits


@pytest.fixture(scope="module")
def client(stack: Stack, warehouse: str) -> Iterator[bigquery.Client]:
    with dial(warehouse, Credentials(stack.agent_token())) as opened:
        yield opened


def dial(address: str, credentials: Any) -> bigquery.Client:
    return bigquery.Client(project=PROJECT, credentials=credentials, client_options=ClientOptions(api_endpoint=address))


def decide(stack: Stack, job: bigquery.QueryJob, decision: str, **more: str) -> None:
    review = job.labels["hoopweb_review"].rstrip("/").rsplit("/", 1)[-1]
    answer = stack.rest(
        "POST",
        f"/api/v1/reviews/{review}/decision",
        user="reviewer",
        json={"decision": decision, "reason": "checked with the ward", **more},
    )
    assert answer.status_code == 200, answer.text


def held(client: bigquery.Client, text: str, config: bigquery.QueryJobConfig | None = None) -> bigquery.QueryJob:
    """A job that waits for a reviewer."""
    job = client.query(text, job_config=config)
    until(lambda: "hoopweb_review" in client.get_job(job.job_id).labels)
    job = client.get_job(job.job_id)
    assert job.state == "PENDING"
    return job


def until(is_so: Callable[[], Any], within_s: float = 90) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)
    return found


def texts_run(service: Service) -> list[str]:
    """Queries the service was asked to run, not only to look at."""
    asked = [seen.body.get("configuration", {}) for seen in list(service.shim.requests)]
    return [each["query"]["query"] for each in asked if "query" in each and not each.get("dryRun")]


def status_of(stack: Stack, review: str) -> str:
    return str(stack.rest("GET", f"/api/v1/reviews/{review}", user="reviewer").json()["status"])


def ward_of(service: Service, patient: int) -> int:
    return int(service.sql(f"SELECT ward FROM {TABLE} WHERE id = {patient}")["rows"][0]["f"][0]["v"])


@pytest.fixture
def entries(stack: Stack) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Bodies of the log's entries since the test began."""
    with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as control:
        (start,) = control.execute("SELECT max(seq) FROM audit_logentry").fetchone() or (0,)

        def since(kind: str, **fields: Any) -> list[dict[str, Any]]:
            rows = control.execute(
                "SELECT convert_from(canonical, 'UTF8')::jsonb -> 'body' FROM audit_logentry"
                " WHERE seq > %s AND kind = %s ORDER BY seq",
                [start, kind],
            ).fetchall()
            return [body for (body,) in rows if all(body.get(name) == value for name, value in fields.items())]

        yield since


# --- held ------------------------------------------------------------------------------------------------------------


def test_held_query_waits_in_the_stock_client_and_runs_once_approved(
    stack: Stack, client: bigquery.Client, service: Service
) -> None:
    job = held(client, f"UPDATE {TABLE} SET ssn = 'new-{MARK}', ward = 90 WHERE id = 90")
    assert "waits for approval (rule bq-writes)" in job.errors[0]["message"]
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(job.result(timeout=60)))

    waiting.start()
    decide(stack, job, "approve")
    waiting.join(60)

    assert answers
    assert job.num_dml_affected_rows == 1
    assert ward_of(service, 90) == 90
    until(lambda: rows_used(stack, job) == 1)  # what a cap of the approval counts


def rows_used(stack: Stack, job: bigquery.QueryJob) -> int:
    """Rows counted under the approval of a job that was held."""
    review = job.labels["hoopweb_review"].rstrip("/").rsplit("/", 1)[-1]
    grants = stack.rest("GET", "/api/v1/grants", user="reviewer").json()["results"]
    return next(int(grant["rows_used"]) for grant in grants if grant["review"] == review)


def test_denied_review_is_access_denied(stack: Stack, client: bigquery.Client, service: Service) -> None:
    job = held(client, f"UPDATE {TABLE} SET ssn = 'new-{MARK}', ward = 91 WHERE id = 91")

    decide(stack, job, "deny")

    with pytest.raises(Forbidden, match="a reviewer denied this statement: checked with the ward"):
        job.result(timeout=60)
    assert ward_of(service, 91) != 91


def test_modified_query_runs_under_the_same_job_and_says_so(
    stack: Stack, client: bigquery.Client, service: Service
) -> None:
    untouched = ward_of(service, 93)
    job = held(client, f"UPDATE {TABLE} SET ssn = 'new-{MARK}', ward = 92 WHERE id IN (92, 93)")
    modified = f"UPDATE {TABLE} SET ssn = 'new-{MARK}', ward = 92 WHERE id = 92"

    decide(stack, job, "modify", statement=modified)
    job.result(timeout=60)

    again = client.get_job(job.job_id)
    assert again.query == modified
    assert again.labels["hoopweb_modified"] == "true"
    assert (ward_of(service, 92), ward_of(service, 93)) == (92, untouched)


def test_query_with_parameters_is_modified(stack: Stack, client: bigquery.Client, service: Service) -> None:
    untouched = ward_of(service, 96)
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ArrayQueryParameter("ids", "INT64", [95, 96]),
            bigquery.ScalarQueryParameter("mark", "STRING", f"new-{MARK}"),
        ]
    )
    text = f"UPDATE {TABLE} SET ssn = @mark, ward = 94 WHERE id IN UNNEST(@ids)"
    job = held(client, text, config)
    modified = f"{text} AND id = 95"

    decide(stack, job, "modify", statement=modified)
    job.result(timeout=60)

    assert client.get_job(job.job_id).query == modified
    assert (ward_of(service, 95), ward_of(service, 96)) == (94, untouched)


def test_cancelled_query_withdraws_its_review(stack: Stack, client: bigquery.Client) -> None:
    job = held(client, f"UPDATE {TABLE} SET ssn = 'new-{MARK}' WHERE id = 94")
    review = job.labels["hoopweb_review"].rstrip("/").rsplit("/", 1)[-1]

    job.cancel()

    until(lambda: client.get_job(job.job_id).state == "DONE")
    until(lambda: status_of(stack, review) == "withdrawn")


# --- denied, failed, cancelled ---------------------------------------------------------------------------------------


def test_denied_query_names_its_session(client: bigquery.Client) -> None:
    with pytest.raises(Forbidden, match=r"\[\S+\]\..* Session \S+, statement \S+\.") as caught:
        client.query_and_wait(f"DROP TABLE {TABLE}")

    assert caught.value.errors[0]["reason"] == "accessDenied"


def test_running_query_is_cancelled_at_the_service(client: bigquery.Client, service: Service) -> None:
    service.shim.delay_s = 60.0
    try:
        job = client.query(f"SELECT id FROM {TABLE} WHERE id = {MARK}")
        until(lambda: client.get_job(job.job_id).state == "RUNNING")
        until(lambda: job.query in texts_run(service))  # the gateway says so when it sends it there
        job.cancel()
        until(lambda: client.get_job(job.job_id).state == "DONE")
    finally:
        service.shim.delay_s = 0.0

    until(lambda: [seen for seen in service.shim.requests if seen.path.endswith("/cancel")])
    with pytest.raises(GoogleAPICallError):
        job.result(retry=None, job_retry=None)


def test_lost_answer_does_not_run_a_statement_twice(client: bigquery.Client, service: Service) -> None:
    before = int(service.sql(f"SELECT COUNT(*) FROM {DATASET}.wards")["rows"][0]["f"][0]["v"])
    service.shim.lose_answers = 1

    client.query_and_wait(f"INSERT INTO {DATASET}.wards (id, name) VALUES ({MARK}, 'a ward')")

    assert service.shim.lose_answers == 0
    assert int(service.sql(f"SELECT COUNT(*) FROM {DATASET}.wards")["rows"][0]["f"][0]["v"]) == before + 1


def test_request_id_makes_a_repeated_call_the_same_job(stack: Stack, warehouse: str) -> None:
    body = {"query": f"SELECT {MARK} AS mark", "useLegacySql": False, "requestId": f"r-{MARK}"}
    url, headers = f"{warehouse}/bigquery/v2/projects/{PROJECT}/queries", bearer(stack)

    first, second = (httpx.post(url, json=body, headers=headers, timeout=60).json() for _ in range(2))
    other = httpx.post(url, json={**body, "query": "SELECT 2 AS mark"}, headers=headers, timeout=60).json()

    assert first["jobReference"] == second["jobReference"] != other["jobReference"]


# --- who -------------------------------------------------------------------------------------------------------------


def bearer(stack: Stack, name: str = "demo-agent") -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.agent_token(name)}"}


def test_other_principals_jobs_do_not_exist(stack: Stack, warehouse: str, client: bigquery.Client) -> None:
    job = client.query(f"SELECT ssn FROM {TABLE} LIMIT 1")
    job.result()

    def other() -> bigquery.Client:
        return dial(warehouse, Credentials(stack.agent_token("other-agent")))

    until(lambda: can_ask(other()))
    with pytest.raises(NotFound):
        other().get_job(job.job_id)
    path = f"{warehouse}/bigquery/v2/projects/{PROJECT}/queries/{job.job_id}"
    assert httpx.get(path, headers=bearer(stack, "other-agent"), timeout=60).status_code == 404
    assert job.job_id not in [listed.job_id for listed in other().list_jobs(all_users=True)]


def can_ask(client: bigquery.Client) -> bool:
    """Whether the gateway knows the agent already."""
    try:
        client.query_and_wait("SELECT 1", retry=None, job_retry=None)
    except GoogleAPICallError:
        return False
    return True


def test_nobody_is_told_where_tokens_come_from(warehouse: str, entries: Callable[..., Any]) -> None:
    path = f"{warehouse}/bigquery/v2/projects/{PROJECT}/datasets"

    answers = [httpx.get(path, timeout=60), httpx.get(path, headers={"Authorization": "Bearer x.y.z"}, timeout=60)]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert "/.well-known/oauth-protected-resource" in answers[0].headers["www-authenticate"]
    until(lambda: len(entries("authentication.failed", protocol="bigquery")) == 2)


@pytest.mark.parametrize("path", ["/projects/other-project/datasets", "/c/clinic"])
def test_other_projects_and_kinds_are_not_found(stack: Stack, warehouse: str, path: str) -> None:
    prefix = f"{warehouse}{path}" if path.startswith("/c/") else warehouse
    rest = f"/bigquery/v2/projects/{PROJECT}/datasets" if path.startswith("/c/") else f"/bigquery/v2{path}"

    assert httpx.get(prefix + rest, headers=bearer(stack), timeout=60).status_code == 404


def test_connection_is_named_by_prefix(stack: Stack, warehouse: str) -> None:
    with dial(f"{warehouse}/c/{CONNECTION}", Credentials(stack.agent_token())) as client:
        assert [row.one for row in client.query_and_wait("SELECT 1 AS one")] == [1]


def test_tokens_from_a_url_and_from_a_program(
    stack: Stack, warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other two sources of an `external_account` file."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    common = {
        "type": "external_account",
        "audience": warehouse,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{warehouse}/v1/token",
    }
    answer = {
        "version": 1,
        "success": True,
        "token_type": common["subject_token_type"],
        "id_token": stack.agent_token(),
        "expiration_time": int(time.time()) + 600,
    }
    (tmp_path / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    (tmp_path / "program.py").write_text(f"print(open({str(tmp_path / 'answer.json')!r}).read())", encoding="utf-8")
    program = f"{sys.executable} {tmp_path / 'program.py'}"
    (tmp_path / "token").write_text(stack.agent_token(), encoding="utf-8")
    with served(tmp_path) as address:
        sources = [
            identity_pool.Credentials.from_info(
                {**common, "credential_source": {"url": f"{address}/token"}}, scopes=[SCOPE]
            ),
            pluggable.Credentials.from_info(
                {**common, "credential_source": {"executable": {"command": program, "timeout_millis": 20_000}}},
                scopes=[SCOPE],
            ),
        ]
        for credentials in sources:
            with dial(warehouse, credentials) as client:
                assert [row.one for row in client.query_and_wait("SELECT 1 AS one")] == [1]


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """A directory over HTTP, as a metadata server would serve a workload's token."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_upstream_sees_the_gateways_credential_and_never_the_clients(
    stack: Stack, client: bigquery.Client, service: Service
) -> None:
    client.query_and_wait(f"SELECT id FROM {TABLE} LIMIT 1")

    unknown = httpx.get(f"{service.url}/bigquery/v2/projects/{PROJECT}/datasets", headers=bearer(stack), timeout=60)
    assert unknown.status_code == 401  # the control: the client's own token opens nothing there
    sent = service.shim.requests[-1]
    job = next(seen for seen in reversed(service.shim.requests) if seen.path.endswith("/jobs"))
    assert sent.path.startswith("/bigquery/v2/projects/")
    assert job.body["configuration"]["labels"].keys() >= {"hoopweb_statement", "hoopweb_session"}


# --- the record ------------------------------------------------------------------------------------------------------


def test_everything_about_a_query_is_on_the_record(client: bigquery.Client, entries: Callable[..., Any]) -> None:
    job = client.query(f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 250")
    assert len(list(job.result(page_size=100))) == 250

    (done,) = until(lambda: entries("statement.completed", rows=250))
    assert done["protocol"] == "bigquery"
    assert done["bytes_processed"] == 0 or done["bytes_processed"] > 0
    assert {"column": "ssn", "rule": "bq-ssn", "technique": "redact", "count": 250} in done["masked"]
    assert done["recording"]
    assert entries("statement.authorised")
    assert len(list(client.get_job(job.job_id).result())) == 250
    (again,) = until(lambda: entries("statement.read_again"))
    assert again["rows"] == 250
    assert again["recording"]


def test_whose_records_a_result_showed_is_accounted_for(client: bigquery.Client, entries: Callable[..., Any]) -> None:
    client.query_and_wait(f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 41")
    client.query_and_wait(f"SELECT ssn FROM {TABLE} ORDER BY id LIMIT 42")

    (named,) = until(lambda: entries("statement.completed", rows=41))
    (unnamed,) = until(lambda: entries("statement.completed", rows=42))
    assert named["subjects"] == [{"name": "patient", "known": True, "count": 41, "without": 0}]
    assert [(kind["name"], kind["known"]) for kind in unnamed["subjects"]] == [("patient", False)]


@pytest.mark.parametrize(
    ("selected", "rows"),
    [("contact", 43), ("contact.email", 44), ("ARRAY(SELECT contact) AS c", 45), ("t.*", 46)],
)
def test_a_number_inside_a_record_names_its_subjects(
    client: bigquery.Client, entries: Callable[..., Any], selected: str, rows: int
) -> None:
    client.query_and_wait(f"SELECT {selected} FROM {TABLE} AS t ORDER BY t.id LIMIT {rows}")

    (done,) = until(lambda: entries("statement.completed", rows=rows))
    (kind,) = done["subjects"]
    assert (kind["known"], kind["without"]) == (True, 0)
    assert kind["count"] == (2 * rows if selected == "t.*" else rows)  # there by number and by address


def test_refused_calls_are_on_the_record(client: bigquery.Client, entries: Callable[..., Any]) -> None:
    with pytest.raises(Forbidden):
        client.create_dataset("other")
    with pytest.raises(Forbidden):
        client.query("SELECT 1", job_config=bigquery.QueryJobConfig(create_session=True)).result()

    refused = until(lambda: entries("request.refused"))
    assert [body["endpoint"] for body in refused] == ["datasets.insert", "jobs.insert"]


# --- other ways to ask -----------------------------------------------------------------------------------------------


def test_rest_statement_on_the_warehouse(stack: Stack, warehouse: str) -> None:
    answer = stack.rest(
        "POST",
        f"/api/v1/connections/{CONNECTION}/statements",
        json={"statement": f"SELECT id, ssn, score, tags FROM {TABLE} WHERE id = ? LIMIT 5", "parameters": [2]},
    )

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [(column["name"], column["type"], column["masked"]) for column in body["columns"][:2]] == [
        ("id", "INT64", False),
        ("ssn", "STRING", True),
    ]
    assert body["rows"] == [[2, HIDDEN, 3.0, ["a", "b"]]]


def test_rest_denial_and_explain(stack: Stack, warehouse: str) -> None:
    denied = stack.rest(
        "POST", f"/api/v1/connections/{CONNECTION}/statements", json={"statement": f"DROP TABLE {TABLE}"}
    )
    explained = stack.manage("explain", CONNECTION, f"SELECT ssn FROM {TABLE} LIMIT 3")

    assert denied.status_code == 403
    assert explained.returncode == 0, explained.stderr
    assert "redact" in explained.stdout


def test_pandas_gbq(stack: Stack, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas_gbq

    frame = pandas_gbq.read_gbq(
        f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 10",
        project_id=PROJECT,
        bigquery_client=dial(warehouse, Credentials(stack.agent_token())),
        progress_bar_type=None,
    )

    assert list(frame["id"]) == list(range(1, 11))
    assert set(frame["ssn"]) == {HIDDEN}


def test_client_that_is_told_nothing_but_two_variables(
    warehouse: str, credentials_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dbt and others do: application default credentials, and the library's own switch of address."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials_file))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", warehouse)

    with bigquery.Client(project=PROJECT) as client:
        (row,) = client.query_and_wait(f"SELECT id, ssn FROM {TABLE} WHERE id = 4")

    assert tuple(row) == (4, HIDDEN)


def test_sqlalchemy(stack: Stack, warehouse: str) -> None:
    import sqlalchemy

    opened = dial(warehouse, Credentials(stack.agent_token()))
    engine = sqlalchemy.create_engine(
        f"bigquery://{PROJECT}?user_supplied_client=True", connect_args={"client": opened}
    )
    with engine.connect() as connection:
        patients = sqlalchemy.Table("patients", sqlalchemy.MetaData(), schema=DATASET, autoload_with=connection)
        rows = connection.execute(
            sqlalchemy.select(patients.c.id, patients.c.ssn).where(patients.c.id == 3).limit(1)
        ).all()

    assert [tuple(row) for row in rows] == [(3, HIDDEN)]
    assert TABLE in sqlalchemy.inspect(engine).get_table_names(DATASET)
