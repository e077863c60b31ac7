"""HTTP against the gateway's BigQuery API: the request line and the token's header decide, and nothing else does.

What two servers could read differently is refused before (tests/gateway/listeners/test_http11.py); here is what reaches
the surface: other places for a token, other methods and paths, parameters of Google's front end, bodies that disagree
with the path. Nothing of a client's headers and parameters goes on to the service.
"""

from __future__ import annotations

import gzip
import json
import secrets
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.bigquery.conftest import CONNECTION, DATASET, SSN
from tests.bigquery.service import PROJECT, Service
from tests.bigquery.test_governed import until
from tests.stack import Stack

pytestmark = pytest.mark.e2e

BASE = f"/bigquery/v2/projects/{PROJECT}"
PATIENTS = f"{BASE}/datasets/{DATASET}/tables/patients"
ROWS = f"{PATIENTS}/data?maxResults=1"
TEXT = f"SELECT id, ssn FROM {DATASET}.patients LIMIT 1"
QUERY = {"query": TEXT, "useLegacySql": False}
SENT_ON = {"maxResults", "startIndex", "formatOptions.useInt64Timestamp"}


class Raw:
    """Requests as bytes, so that no library tidies them up."""

    def __init__(self, address: str, token: str) -> None:
        self.netloc = urlsplit(address).netloc
        self.token = token

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"", token: bool = True) -> httpx.Response:
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.netloc}", "Connection: close", *fields]
        head += [f"Authorization: Bearer {self.token}"] if token else []
        head += [f"Content-Length: {len(body)}"] if body else []
        host, _, port = self.netloc.partition(":")
        with socket.create_connection((host, int(port)), 60) as sock:
            sock.sendall("\r\n".join([*head, "", ""]).encode() + body)
            heard = b"".join(iter(lambda: sock.recv(65_536), b""))
        status, _, rest = heard.partition(b"\r\n")
        fields_, _, content = rest.partition(b"\r\n\r\n")
        headers = [tuple(line.decode().split(": ", 1)) for line in fields_.split(b"\r\n")]
        return httpx.Response(int(status.split()[1]), headers=headers, content=content)

    def post(self, target: str, body: Any, *fields: str) -> httpx.Response:
        return self.ask("POST", target, "Content-Type: application/json", *fields, body=json.dumps(body).encode())


@pytest.fixture(scope="module")
def raw(stack: Stack, warehouse: str) -> Raw:
    return Raw(warehouse, stack.agent_token())


@pytest.fixture(scope="module")
def control(raw: Raw, service: Service) -> None:
    """Asked plainly, the same is answered, masked; and the service holds the value."""
    heard = raw.ask("GET", ROWS)

    assert heard.status_code == 200, heard.text
    assert SSN not in heard.text
    assert SSN in json.dumps(service.sql(f"SELECT ssn FROM {DATASET}.patients WHERE id = 1"))


@pytest.fixture(autouse=True)
def nothing_asked(control: None, service: Service) -> None:
    service.shim.requests.clear()


def elsewhere(token: str) -> list[tuple[str, tuple[str, ...]]]:
    """A token where Google's front end, or a proxy, would look for one."""
    return [
        (f"{ROWS}&access_token={token}", ()),
        (f"{ROWS}&oauth_token={token}&bearer_token={token}", ()),
        (f"{ROWS}&key={token}", ()),
        (ROWS, (f"Cookie: access_token={token}",)),
        (ROWS, (f"X-Goog-Iam-Authorization-Token: {token}", f"X-Goog-Api-Key: {token}")),
        (ROWS, (f"Proxy-Authorization: Bearer {token}", f"X-Forwarded-Authorization: Bearer {token}")),
        (ROWS, (f"Authorization: Basic {token}",)),
        (ROWS, (f"Authorization: {token}",)),
        (ROWS, (f"Authorization: Bearer {token[:-2]}",)),
    ]


@pytest.mark.parametrize("case", range(len(elsewhere(""))))
def test_a_token_counts_in_its_header_alone(raw: Raw, service: Service, case: int) -> None:
    target, fields = elsewhere(raw.token)[case]

    assert raw.ask("GET", target, *fields, token=False).status_code == 401
    assert not service.shim.requests


def test_two_tokens_are_none(raw: Raw) -> None:
    assert raw.ask("GET", ROWS, "Authorization: Bearer x.y.z").status_code == 400
    assert raw.ask("GET", ROWS, f"Authorization: Bearer {raw.token}").status_code == 400


OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Goog-Method-Override")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_method_is_the_request_lines(raw: Raw, service: Service, method: str) -> None:
    fields = [f"{name}: DELETE" for name in OVERRIDES]

    heard = raw.ask(method, f"{PATIENTS}?_method=DELETE&$httpMethod=DELETE&httpMethod=DELETE", *fields)

    assert heard.status_code == (200 if method == "GET" else 403)
    assert {seen.method for seen in service.shim.requests} <= {"GET"}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "PUT", "TRACE", "get", "DEBUG", "CONNECT"])
def test_other_methods_are_not_on_the_table(raw: Raw, service: Service, method: str) -> None:
    assert raw.ask(method, f"{PATIENTS}/data").status_code in (403, 405)
    assert not service.shim.requests


@pytest.mark.parametrize(
    "target",
    [
        f"http://gateway.example{PATIENTS}",
        f"http://user:word@gateway.example{PATIENTS}",
        f"//gateway.example{PATIENTS}",
        f"/{PATIENTS}",
        PATIENTS.replace("/tables", "//tables"),
        PATIENTS.replace("/tables", "/./tables"),
        f"{PATIENTS}/../wards",
        f"{PATIENTS}/%2e%2e/wards",
        "/bigquery/v2/../../livez",
        PATIENTS.replace("/tables/", "/tables%2F"),
        PATIENTS.replace("/tables/", "/tables%252F"),
        f"{BASE}/datasets/{DATASET}%252Ftables%252Fpatients",
        f"{BASE}/datasets/{DATASET}%2Ftables%2Fpatients",
        f"{PATIENTS}/%252e%252e/wards",
        f"{PATIENTS};x=y",
        PATIENTS.replace(f"/{DATASET}", f"/{DATASET};x"),
        PATIENTS.replace("/tables/", "\\tables\\"),
        f"{PATIENTS}%3FselectedFields=ssn",
        f"{PATIENTS}%23x",
        f"{PATIENTS}#x",
        f"{PATIENTS}%00",
        f"{PATIENTS}%0d%0aX-A:%20b",
        f"{PATIENTS}%ff",
        f"{PATIENTS}%zz",
        f"{PATIENTS}$20260101",
        f"{PATIENTS}@-3600000",
        f"{PATIENTS}*",
        f"{PATIENTS}/",
        PATIENTS.replace("/bigquery", "/BigQuery"),
        PATIENTS.replace(f"/datasets/{DATASET}", f"/datasets/{PROJECT}:{DATASET}"),
        PATIENTS.replace(f"/datasets/{DATASET}", f"/datasets/other.{DATASET}"),
        PATIENTS.replace(PROJECT, "other-project"),
        PATIENTS.replace(PROJECT, PROJECT.upper()),
        f"/c/{CONNECTION}/c/{CONNECTION}{PATIENTS}",
        f"/c/clinic{PATIENTS}",
        f"/c/{CONNECTION.upper()}{PATIENTS}",
        f"/c/{CONNECTION}%2f{PATIENTS[1:]}",
        f"/batch{PATIENTS}",
    ],
)
def test_another_spelling_of_a_path_asks_for_nothing(raw: Raw, service: Service, target: str) -> None:
    heard = raw.ask("GET", target)

    assert heard.status_code in (400, 403, 404), heard.text
    assert not service.shim.requests


def test_batches_are_not_served(raw: Raw, service: Service) -> None:
    part = f"--b\r\nContent-Type: application/http\r\n\r\nGET {ROWS} HTTP/1.1\r\n\r\n--b--\r\n".encode()

    for target in ("/batch", "/batch/bigquery/v2", f"/c/{CONNECTION}/batch/bigquery/v2", f"{BASE}/batch"):
        heard = raw.ask("POST", target, "Content-Type: multipart/mixed; boundary=b", body=part)
        assert heard.status_code in (403, 404)
    assert not service.shim.requests


@pytest.mark.parametrize(
    "parameters",
    [
        "alt=media&$alt=proto&alt=csv",
        "callback=steal&$callback=steal",
        "fields=*&$fields=rows&fields=rows(f(v))",
        "prettyPrint=true&$prettyPrint=1",
        "quotaUser=x&userIp=192.0.2.1&$userProject=other-project",
        "trace=token:x&$trace=y&$.xgafv=2&upload_protocol=raw&uploadType=media",
        "view=FULL&decryption=none&maxResults=1",
    ],
)
def test_parameters_of_googles_front_end_change_nothing(raw: Raw, service: Service, parameters: str) -> None:
    heard = raw.ask(
        "GET",
        f"{ROWS}&{parameters}",
        "X-Goog-User-Project: other-project",
        "X-Goog-Request-Params: project_id=other-project",
        "X-Goog-FieldMask: *",
        "X-Goog-Ext-1-bin: AA==",
        "X-Server-Timeout: 1",
    )

    assert heard.status_code == 200
    assert heard.headers["content-type"] == "application/json"
    assert heard.json()["kind"] == "bigquery#tableDataList"
    assert SSN not in heard.text
    read = [seen for seen in service.shim.requests if seen.path.endswith("/data")]
    assert read
    assert all(set(seen.query) <= SENT_ON for seen in read)
    assert not any(name.startswith("x-") for seen in service.shim.requests for name in seen.header_names)


@pytest.mark.parametrize(
    "fields", [("X-Original-URL: {}",), ("X-Rewrite-URL: {}",), ("X-Forwarded-Prefix: /c/clinic",)]
)
def test_a_header_is_no_other_path(raw: Raw, service: Service, fields: tuple[str, ...]) -> None:
    assert raw.ask("GET", "/livez", *(field.format(ROWS) for field in fields)).json() == {"status": "ok"}
    assert not service.shim.requests


def test_what_stands_in_an_address_is_kept_nowhere(stack: Stack, raw: Raw) -> None:
    """Old clients put tokens into addresses; whoever reads a log must not find them, nor a path with a name in it."""
    canary = f"canary{secrets.token_hex(8)}"
    with psycopg.connect(stack.demo["control_dsn"], autocommit=True) as control:
        (start,) = control.execute("SELECT max(seq) FROM audit_logentry").fetchone() or (0,)
        size = stack.log_path.stat().st_size
        for target in (
            f"{ROWS}&access_token={canary}",
            f"{ROWS}&key={canary}&$.xgafv=2",
            f"{BASE}/{canary}?a={canary}",
        ):
            raw.ask("GET", target)
            raw.ask("GET", target, token=False)
        raw.ask("GET", ROWS, f"Authorization: Basic {canary}", f"Cookie: {canary}", token=False)
        raw.ask("GET", f"/bigquery//{canary}?access_token={canary}")
        raw.ask("GET", f"/c/{canary}/$discovery/rest?key={canary}")
        raw.ask("GET", f"/batch?access_token={canary}")

        def written() -> tuple[int, str]:
            rows = control.execute(
                "SELECT kind, convert_from(canonical, 'UTF8') FROM audit_logentry WHERE seq > %s", [start]
            ).fetchall()
            return sum(kind == "authentication.failed" for kind, _ in rows), "".join(body for _, body in rows)

        until(lambda: written()[0] >= 4)  # the control: they are on the record
        assert canary not in written()[1]
    log = stack.log_path.read_bytes()[size:].decode(errors="replace")
    assert "HTTP request refused" in log  # the control: so is what was not let in, here
    assert canary not in log


@pytest.mark.parametrize("target", [ROWS, PATIENTS, f"{BASE}/jobs", f"{BASE}/nothing", "/bigquery/v2/projects"])
@pytest.mark.parametrize("token", [True, False])
def test_no_answer_is_for_a_cache(raw: Raw, target: str, token: bool) -> None:
    headers = raw.ask("GET", target, token=token).headers

    assert (headers["cache-control"], headers["x-content-type-options"]) == ("private, no-store", "nosniff")


@pytest.mark.parametrize(
    ("dataset", "status"), [("other-project:clinic", 400), ("a.b", 400), ("_hidden", 403), ("region-us", 400)]
)
def test_a_default_dataset_leads_nowhere_else(raw: Raw, service: Service, dataset: str, status: int) -> None:
    default = {"projectId": PROJECT, "datasetId": dataset}

    heard = raw.post(f"{BASE}/queries", {**QUERY, "query": "SELECT ssn FROM patients", "defaultDataset": default})

    assert heard.status_code in (status, 404), heard.text
    assert not [seen for seen in service.shim.requests if seen.body.get("jobReference", {}).get("jobId")]


def job(reference: Any = None, **more: Any) -> dict[str, Any]:
    configuration = {"query": {**QUERY, **more.pop("query", {})}, **more}
    return {"configuration": configuration, **({"jobReference": reference} if reference is not None else {})}


@pytest.mark.parametrize(
    "body",
    [
        job({"projectId": "other-project", "jobId": "a"}),
        job({"projectId": 7, "jobId": "b"}),
        job({"projectId": PROJECT, "location": "eu/../us"}),
        job({"projectId": PROJECT, "location": "eu\r\nX-A: b"}),
        job({"projectId": PROJECT, "zone": "a"}),
        job({"jobId": "../../x"}),
        job(labels={"a\nb": "c"}),
        job(labels={"a": "b\r\nc"}),
        job(dryRun="true"),
        job(query={"defaultDataset": {"projectId": "a/b", "datasetId": DATASET}}),
    ],
    ids=str,
)
def test_a_body_that_disagrees_with_the_path_runs_nothing(raw: Raw, service: Service, body: dict[str, Any]) -> None:
    heard = raw.post(f"{BASE}/jobs", body)

    assert heard.status_code == 400, heard.text
    assert not service.shim.requests


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT ssn FROM `other-project.{DATASET}.patients` LIMIT 1",
        f"SELECT ssn FROM `{PROJECT.upper()}.{DATASET}.patients` LIMIT 1",
        f"SELECT ssn FROM {DATASET.upper()}.patients LIMIT 1",
        f"SELECT ssn FROM {DATASET}.PATIENTS LIMIT 1",
        f"SELECT ssn FROM `other-project`.{DATASET}.INFORMATION_SCHEMA.TABLES",
        f"SELECT ssn FROM [{PROJECT}:{DATASET}.patients] LIMIT 1",
    ],
)
@pytest.mark.parametrize("default", [None, {"projectId": "other-project", "datasetId": DATASET}])
def test_another_project_or_case_in_a_statement_shows_nothing(
    raw: Raw, service: Service, text: str, default: dict[str, str] | None
) -> None:
    heard = raw.post(f"{BASE}/queries", {**QUERY, "query": text, **({"defaultDataset": default} if default else {})})

    assert SSN not in heard.text
    assert not [seen for seen in service.shim.requests if seen.body.get("jobReference", {}).get("jobId")]


@pytest.mark.parametrize(
    "content",
    [
        b'{"query":"SELECT 1","useLegacySql":false,"query":"SELECT 2"}',
        json.dumps(QUERY).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(QUERY).encode(),
        b'{"query":"SELECT \'\\ud800\' AS a","useLegacySql":false}',
        b'{"query":"SELECT 1","useLegacySql":false,"maxResults":NaN}',
        b"[" * 100_000,
        b"query=SELECT+1&useLegacySql=false",
        b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b--",
    ],
    ids=range(8),
)
def test_a_body_that_can_be_read_in_two_ways_is_refused(raw: Raw, service: Service, content: bytes) -> None:
    assert raw.ask("POST", f"{BASE}/queries", body=content).status_code == 400
    assert not service.shim.requests


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip"])
def test_compressed_requests_are_not_unpacked(raw: Raw, service: Service, coding: str) -> None:
    """A bomb is refused by its header; unmarked, it is not JSON."""
    bomb = gzip.compress(b" " * 20_000_000 + json.dumps(QUERY).encode())

    assert raw.ask("POST", f"{BASE}/queries", f"Content-Encoding: {coding}", body=bomb).status_code == 415
    assert raw.ask("POST", f"{BASE}/queries", body=bomb).status_code == 400
    assert not service.shim.requests


def test_labels_of_the_gateway_are_not_a_clients_to_say(raw: Raw, service: Service) -> None:
    forged = {"hoopweb_statement": "forged", "hoopweb_session": "forged", "hoopweb_decision": "allow", "team": "a"}

    heard = raw.post(f"{BASE}/queries", {**QUERY, "query": f"{TEXT} -- labels", "labels": forged})

    assert heard.status_code == 200, heard.text
    (ran,) = [seen for seen in service.shim.requests if seen.body.get("jobReference", {}).get("jobId")]
    labels = ran.body["configuration"]["labels"]
    assert labels["team"] == "a"
    assert "hoopweb_decision" not in labels
    assert "forged" not in labels.values()
