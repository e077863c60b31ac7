"""Ways to get a protected value out of BigQuery: each betrays the canary at the service itself, none at the gateway.

What the emulator cannot run (EXTERNAL_QUERY, ML, EXPORT DATA, the job views of INFORMATION_SCHEMA) has no control here:
the catalogue says of each why. tests/analysis/bigquery holds those: they are never read as harmless.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bigquery.conftest import apply, until_served
from tests.bigquery.service import PROJECT, Service
from tests.stack import AGENT, Stack

pytestmark = pytest.mark.e2e

CONNECTION = "vault"
SSN, EMAIL, PHONE, NOTE = "536-71-9284", "zyphorae.quix@canary-post.example", "(707) 555-8193", "541-82-6637"
NEEDLES = (SSN, SSN.replace("-", ""), SSN[::-1], "536-71", "NTM2LTcx", "3533362d", "zyphorae", "555-8193", NOTE)

PLANT = f"""
CREATE TABLE vault.patients AS SELECT 900001 AS id, '{SSN}' AS ssn, 'Quixandrel' AS last_name, 'CA' AS state,
  STRUCT('{EMAIL}' AS email, 'Oslo' AS city) AS person, [STRUCT('home' AS kind, '{PHONE}' AS phone)] AS contacts,
  ['{SSN}', 'x'] AS tags, JSON '{{"ssn": "{SSN}"}}' AS doc, 'Seen today; SSN {NOTE} on file.' AS note
;;
CREATE TABLE vault.shard_a AS SELECT 1 AS id, '{SSN}' AS ssn
;;
CREATE TABLE vault.shard_b AS SELECT 2 AS id, '{SSN}' AS ssn
;;
CREATE TABLE vault.d (z STRING)
;;
CREATE VIEW vault.labels AS SELECT ssn AS label, id FROM `{PROJECT}.vault.patients`
"""
# The agent holds every right but administration: what stops it must be the rules.
RULES: dict[str, Any] = {
    "apiVersion": "hoopweb/v1",
    "access": [
        {"name": "vault", "groups": ["ai-agents"], "connections": [CONNECTION], "operations": ["read", "write", "ddl"]}
    ],
    "masking": [
        {
            "name": "vault-identifiers",
            "connections": [CONNECTION],
            "columns": [
                "vault.*.ssn",
                "vault.patients.person.email",
                "vault.patients.contacts.phone",
                "vault.patients.tags",
                "vault.patients.doc",
            ],
            "technique": "redact",
            "inference": "guarded",
        },
    ],
    "policies": [
        {
            "name": "vault-care",
            "connections": [CONNECTION],
            "when": {
                "any": [{"incomplete": True}, {"inference": True}, {"operation": ["write", "ddl"], "touches_phi": True}]
            },
            "action": "require_approval",
            "reviewers": ["privacy-officers"],
        },
    ],
}

ATTACKS = """
alias | SELECT ssn AS harmless FROM vault.patients
star | SELECT * FROM vault.patients
star-except | SELECT * EXCEPT (id) FROM vault.patients
star-replace | SELECT * REPLACE (ssn AS last_name) FROM vault.patients
function | SELECT REVERSE(REVERSE(ssn)) AS x FROM vault.patients
concat | SELECT CONCAT('a', ssn) AS x FROM vault.patients
substr-parts | SELECT SUBSTR(ssn, 1, 6) AS a, SUBSTR(ssn, 7) AS b FROM vault.patients
base64 | SELECT TO_BASE64(CAST(ssn AS BYTES)) AS x FROM vault.patients
hex | SELECT TO_HEX(CAST(ssn AS BYTES)) AS x FROM vault.patients
derived-table | SELECT x.y FROM (SELECT ssn AS y FROM vault.patients) AS x
later-union-arm | SELECT 'a' AS x UNION ALL SELECT ssn FROM vault.patients
cte-shadow | WITH patients AS (SELECT ssn AS id FROM vault.patients) SELECT id FROM patients
nested-cte | WITH a AS (WITH b AS (SELECT ssn AS z FROM vault.patients) SELECT z FROM b) SELECT z FROM a
struct | SELECT STRUCT(ssn AS a, id AS b) AS s FROM vault.patients
struct-field | SELECT STRUCT(ssn AS a).a AS x FROM vault.patients
as-struct | SELECT AS STRUCT ssn, id FROM vault.patients
whole-row | SELECT p FROM vault.patients AS p
to-json-string | SELECT TO_JSON_STRING(p) AS j FROM vault.patients AS p
to-json | SELECT TO_JSON(p) AS j FROM vault.patients AS p
to-json-struct | SELECT TO_JSON_STRING(STRUCT(ssn)) AS j FROM vault.patients
nested-field | SELECT person.email FROM vault.patients
nested-record | SELECT person FROM vault.patients
nested-star | SELECT person.* FROM vault.patients
repeated | SELECT contacts FROM vault.patients
unnest | SELECT c.phone FROM vault.patients AS p, UNNEST(p.contacts) AS c
unnest-path | SELECT c.phone FROM vault.patients AS p, p.contacts AS c
unnest-star | SELECT c.* FROM vault.patients AS p, UNNEST(p.contacts) AS c
unnest-tags | SELECT t FROM vault.patients, UNNEST(tags) AS t
array-subquery | SELECT ARRAY(SELECT ssn FROM vault.patients) AS xs
array-of-struct | SELECT ARRAY(SELECT AS STRUCT ssn FROM vault.patients) AS xs
array-agg | SELECT ARRAY_AGG(ssn) AS xs FROM vault.patients
array-agg-row | SELECT ARRAY_AGG(p) AS xs FROM vault.patients AS p
string-agg | SELECT STRING_AGG(ssn) AS x FROM vault.patients
array-literal | SELECT [ssn] AS xs FROM vault.patients
array-index | SELECT contacts[OFFSET(0)].phone AS x FROM vault.patients
min | SELECT MIN(ssn) AS x FROM vault.patients
any-value | SELECT ANY_VALUE(ssn) AS x FROM vault.patients
window | SELECT FIRST_VALUE(ssn) OVER (ORDER BY id) AS x FROM vault.patients
lag | SELECT LAG(ssn, 0) OVER (ORDER BY id) AS x FROM vault.patients
qualify | SELECT ssn FROM vault.patients QUALIFY ROW_NUMBER() OVER (ORDER BY id) = 1
pivot | SELECT * FROM (SELECT ssn, state FROM vault.patients) PIVOT (MAX(ssn) FOR state IN ('CA'))
unpivot | SELECT v FROM (SELECT ssn, state FROM vault.patients) UNPIVOT (v FOR n IN (ssn, state))
scalar-subquery | SELECT (SELECT MAX(ssn) FROM vault.patients) AS x
case | SELECT CASE WHEN TRUE THEN ssn END AS x FROM vault.patients
coalesce | SELECT COALESCE(NULL, ssn) AS x FROM vault.patients
view | SELECT label FROM vault.labels
view-star | SELECT * FROM vault.labels
wildcard | SELECT * FROM `vault.shard_*`
wildcard-column | SELECT ssn AS x FROM `vault.shard_*` WHERE _TABLE_SUFFIX = 'a'
wildcard-on-a-table | SELECT ssn FROM `vault.patient*`
backtick-path | SELECT `p`.`ssn` FROM `demo-project.vault.patients` AS `p`
udf | CREATE TEMP FUNCTION f(x STRING) AS (CONCAT(x, '')); SELECT f(ssn) AS x FROM vault.patients
declare | DECLARE x STRING DEFAULT (SELECT MAX(ssn) FROM vault.patients); SELECT x AS y
set | DECLARE x STRING; SET x = (SELECT MAX(ssn) FROM vault.patients); SELECT x AS y
temp-table | CREATE TEMP TABLE t_@ AS SELECT ssn AS z FROM vault.patients; SELECT z FROM t_@
loop | FOR r IN (SELECT ssn FROM vault.patients) DO SELECT r.ssn AS y; END FOR
if | IF (SELECT COUNT(*) FROM vault.patients) > 0 THEN SELECT ssn FROM vault.patients; END IF
begin | BEGIN SELECT ssn FROM vault.patients; END
execute-immediate | EXECUTE IMMEDIATE 'SELECT ssn FROM vault.patients'
execute-immediate-into | DECLARE x STRING; EXECUTE IMMEDIATE 'SELECT ssn FROM vault.patients' INTO x; SELECT x
error-cast | SELECT CAST(ssn AS INT64) AS x FROM vault.patients
error-date | SELECT PARSE_DATE('%Y', ssn) AS x FROM vault.patients
error-function | SELECT ERROR(ssn) AS x FROM vault.patients
ctas | CREATE TABLE vault.copied_@ AS SELECT ssn AS z FROM vault.patients; SELECT z FROM vault.copied_@
create-view | CREATE VIEW vault.seen_@ AS SELECT ssn AS z FROM vault.patients; SELECT z FROM vault.seen_@
insert-select | INSERT INTO vault.d (z) SELECT ssn FROM vault.patients; SELECT z FROM vault.d
merge | MERGE vault.d USING vault.patients ON FALSE WHEN NOT MATCHED THEN INSERT (z) VALUES (ssn); SELECT * FROM vault.d
rename-column | ALTER TABLE vault.shard_b RENAME COLUMN ssn TO harmless; SELECT harmless FROM vault.shard_b
rename-table | ALTER TABLE vault.shard_@ RENAME TO innocent_@; SELECT ssn AS x FROM vault.innocent_@
clone | CREATE TABLE vault.clone_@ CLONE vault.patients; SELECT ssn AS z FROM vault.clone_@
json-column | SELECT doc FROM vault.patients
json-value | SELECT JSON_VALUE(doc, '$.ssn') AS x FROM vault.patients
json-path | SELECT doc.ssn AS x FROM vault.patients
note | SELECT note FROM vault.patients
recursive | WITH RECURSIVE r AS (SELECT ssn FROM vault.patients UNION ALL SELECT ssn FROM r WHERE FALSE) SELECT * FROM r
group-by | SELECT ssn FROM vault.patients GROUP BY ssn
distinct | SELECT DISTINCT ssn FROM vault.patients
order-by-alias | SELECT ssn AS id FROM vault.patients ORDER BY id
join-using | SELECT * FROM vault.patients JOIN vault.patients AS q USING (id)
cross-alias | SELECT person.ssn FROM vault.patients AS person
union-by-name | SELECT ssn AS a, id AS b FROM vault.patients UNION ALL BY NAME SELECT 1 AS b, 'x' AS a
intersect | SELECT ssn FROM vault.patients INTERSECT DISTINCT SELECT ssn FROM vault.patients
except | SELECT ssn FROM vault.patients EXCEPT DISTINCT SELECT 'x'
pipe | FROM vault.patients |> SELECT ssn
"""
INFERENCE = """
comparison | SELECT COUNT(*) AS n FROM vault.patients WHERE ssn = '536-71-9284'
like | SELECT COUNT(*) AS n FROM vault.patients WHERE ssn LIKE '536%'
substring | SELECT COUNT(*) AS n FROM vault.patients WHERE SUBSTR(ssn, 1, 3) = '536'
nested | SELECT COUNT(*) AS n FROM vault.patients WHERE person.email LIKE 'zyphorae%'
repeated | SELECT COUNT(*) AS n FROM vault.patients WHERE '536-71-9284' IN UNNEST(tags)
unnested | SELECT COUNT(*) AS n FROM vault.patients, UNNEST(contacts) AS c WHERE c.phone LIKE '(707)%'
json | SELECT COUNT(*) AS n FROM vault.patients WHERE JSON_VALUE(doc, '$.ssn') LIKE '536%'
case | SELECT SUM(CASE WHEN ssn LIKE '536%' THEN 1 ELSE 0 END) AS n FROM vault.patients
exists | SELECT EXISTS (SELECT 1 FROM vault.patients WHERE ssn LIKE '536%') AS n
guess-table | SELECT COUNT(*) AS n FROM vault.patients JOIN UNNEST(['536-71-9284']) AS g ON ssn = g
set-operation | SELECT 1 AS n FROM (SELECT ssn FROM vault.patients INTERSECT DISTINCT SELECT '536-71-9284')
having | SELECT COUNT(*) AS n FROM vault.patients GROUP BY id HAVING MAX(ssn) LIKE '536%'
script | IF (SELECT COUNT(*) FROM vault.patients WHERE ssn LIKE '536%') > 0 THEN SELECT 1 AS n; END IF
view | SELECT COUNT(*) AS n FROM vault.labels WHERE label LIKE '536%'
overflow | SELECT SUM(v) AS n FROM (SELECT STRPOS(ssn, '9') AS v FROM vault.patients UNION ALL SELECT 9223372036854775)
failure | SELECT IFNULL(NULLIF(SUBSTR(ssn, 1, 1), '4'), ERROR('x')) AS n FROM vault.patients
digest | SELECT CAST(MD5(ssn) AS STRING) AS n FROM vault.patients
wildcard | SELECT COUNT(*) AS n FROM `vault.shard_*` WHERE ssn LIKE '536%'
"""


def cases(table: str, step: int) -> list[Any]:
    """Every `step`-th line, all of them when soaking: each costs several calls of the emulator."""
    rows = [line.split("|", 1) for line in table.strip().splitlines()]
    chosen = rows if os.environ.get("HOOPWEB_SOAK") else rows[::step]
    return [pytest.param(text.strip(), id=name.strip()) for name, text in chosen]


def more_attacks(marks: str = "") -> str:
    """Those without a mark, or those with one."""
    lines = Path(__file__).with_name("attacks.txt").read_text(encoding="utf-8").splitlines()
    if not marks:
        return "\n".join(line for line in lines if not line.startswith(("#", "!")))
    return "\n".join(line[3:] for line in lines if line[0] == "!" and line[1] in marks)


@pytest.fixture(scope="module")
def vault(stack: Stack, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The canary planted, and the agent's way to it."""
    service.make_dataset("vault")
    for statement in PLANT.split(";;"):
        service.sql(statement)
    directory = tmp_path_factory.mktemp("vault")
    (directory / "key.json").write_text(json.dumps(service.key), encoding="utf-8")
    connection = {
        "name": CONNECTION,
        "kind": "bigquery",
        "project": PROJECT,
        "api_endpoint": service.url,
        "credentials": {"file": "key.json"},
    }
    apply(stack, directory, {**RULES, "connections": [connection]})
    until_served(stack, CONNECTION)
    headers = {"Authorization": f"Bearer {stack.agent_token(AGENT)}"}
    base = f"{stack.demo['http_url']}/c/{CONNECTION}/bigquery/v2/projects/{PROJECT}"
    with httpx.Client(base_url=base, headers=headers, timeout=120, trust_env=False) as client:
        yield client
    apply(stack, directory, {**RULES, "connections": [{**connection, "enabled": False}]})
    until_served(stack, CONNECTION, served=False)  # two connections to one project need a prefix in every address


def directly(service: Service, text: str) -> str:
    url = f"{service.emulator_url}/bigquery/v2/projects/{PROJECT}/queries"
    body = {"query": text, "useLegacySql": False, "timeoutMs": 60_000}
    return httpx.post(url, json=body, timeout=90, trust_env=False).text


def outcome(client: httpx.Client, text: str) -> tuple[str, str]:
    """(masked | held | denied | refused, everything the client heard). Refused: the service itself would not run it,
    which the emulator already finds out, and says, in a dry run."""
    answer = client.post("/queries", json={"query": text, "useLegacySql": False, "timeoutMs": 100})
    heard = answer.text
    if answer.status_code == 403:
        return "denied", heard
    if answer.status_code in (400, 404):
        return "refused", heard
    assert answer.status_code == 200, heard
    job = answer.json()["jobReference"]["jobId"]
    # One that is slow waits for nobody: only what is held names its review.
    while not answer.json().get("jobComplete") and "hoopweb_review" not in client.get(f"/jobs/{job}").text:
        answer = client.get(f"/queries/{job}", params={"timeoutMs": 100})
        heard += answer.text
        if answer.status_code != 200:
            return "refused", heard
    if answer.json().get("jobComplete"):
        return "masked", heard
    heard += client.get(f"/jobs/{job}").text + client.get(f"/queries/{job}", params={"timeoutMs": 0}).text
    heard += client.post(f"/jobs/{job}/cancel").text
    return "held", heard


def betrayed(text: str) -> list[str]:
    return [needle for needle in NEEDLES if needle in text]


@pytest.mark.parametrize("text", [*cases(ATTACKS, 5), *cases(more_attacks(), 9)])
@pytest.mark.by_turns(2)
def test_no_shape_betrays_a_canary(
    vault: httpx.Client, service: Service, request: pytest.FixtureRequest, text: str
) -> None:
    name = request.node.callspec.id
    assert betrayed(directly(service, text.replace("@", "direct"))), "the control does not leak: the attack is broken"

    what, heard = outcome(vault, text.replace("@", "governed"))

    assert betrayed(heard) == []
    assert what in (("held", "refused") if name.startswith("error") else ("masked", "held", "denied")), heard


@pytest.mark.parametrize("text", cases(more_attacks("sfvn"), 12))
def test_what_has_no_control_can_have_none_here(vault: httpx.Client, service: Service, text: str) -> None:
    """The marks in the catalogue are true: the service of the tests betrays nothing. Neither does the gateway."""
    assert betrayed(directly(service, text.replace("@", "marked"))) == []

    _, heard = outcome(vault, text.replace("@", "markedtoo"))

    assert betrayed(heard) == []


@pytest.mark.parametrize("text", cases(INFERENCE, 3))
def test_no_question_about_a_protected_value_is_answered(vault: httpx.Client, service: Service, text: str) -> None:
    """The answer is one number, so nothing of it can be masked: asking must need somebody's approval."""
    assert json.loads(directly(service, text))["rows"], "the control does not answer: the attack is broken"

    what, heard = outcome(vault, text)

    assert (what, betrayed(heard.replace(text, ""))) == ("held", []), heard


def test_ordinary_questions_are_answered(vault: httpx.Client) -> None:
    """The catalogue would pass on a gateway that refuses everything: this one does not."""
    heard = [
        outcome(vault, "SELECT id, ssn, state, person.city FROM vault.patients"),
        outcome(vault, "SELECT state, COUNT(*) AS n FROM vault.patients WHERE id > 0 GROUP BY state"),
        outcome(vault, "SELECT c.kind FROM vault.patients, UNNEST(contacts) AS c"),
        outcome(vault, "SELECT person, contacts FROM vault.patients"),
        outcome(vault, "CREATE TEMP FUNCTION f(x INT64) AS (x + 1); SELECT f(id) AS n FROM vault.patients"),
    ]

    assert [what for what, _ in heard] == ["masked"] * 5
    assert all(shown in heard[0][1] for shown in ("900001", "[REDACTED]"))
    assert all(shown in heard[3][1] for shown in ("home", "[REDACTED]"))


def test_a_result_is_no_ones_but_its_askers(vault: httpx.Client) -> None:
    """Anonymous tables and other people's jobs are where results could be read a second time, unmasked."""
    body = vault.post("/queries", json={"query": "SELECT ssn FROM vault.patients", "useLegacySql": False}).json()
    listed = vault.get("/jobs", params={"allUsers": "true"})
    job = vault.get(f"/jobs/{body['jobReference']['jobId']}").json()

    assert "destinationTable" not in json.dumps(job)
    assert "destinationTable" not in listed.text
    assert betrayed(json.dumps(job)) == []
    hidden = vault.get("/datasets/_a1b2c3/tables/anon0123/data")
    assert hidden.status_code in (403, 404)
    asked, heard = outcome(vault, f"SELECT * FROM `{PROJECT}._a1b2c3.anon0123`")
    assert asked in ("denied", "held", "refused")
    assert betrayed(heard) == []
