"""The official clients, unmodified, with nothing but an address and a credentials file."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Forbidden, NotFound
from google.auth import identity_pool
from google.cloud import bigquery

from tests.bigquery.conftest import DATASET, PATIENTS
from tests.bigquery.service import PROJECT, Service

SCOPE = "https://www.googleapis.com/auth/bigquery"
TABLE = f"{DATASET}.patients"
HIDDEN = "[REDACTED]"


@pytest.fixture(scope="module")
def client(warehouse: str, credentials_file: Path) -> Iterator[bigquery.Client]:
    credentials = identity_pool.Credentials.from_file(str(credentials_file), scopes=[SCOPE])
    options = ClientOptions(api_endpoint=warehouse)
    with bigquery.Client(project=PROJECT, credentials=credentials, client_options=options) as opened:
        yield opened


def test_query_is_masked(client: bigquery.Client, service: Service) -> None:
    text = f"SELECT id, ssn, dob, ward FROM {TABLE} WHERE id = 1 LIMIT 1"
    direct = service.sql(text)["rows"][0]["f"]
    assert direct[1]["v"] == "078-05-0001"  # the control: without the gateway it is there

    rows = list(client.query(text).result())

    assert [dict(row) for row in rows] == [{"id": 1, "ssn": HIDDEN, "dob": datetime.date(1950, 1, 1), "ward": 1}]


def test_query_and_wait_is_masked(client: bigquery.Client) -> None:
    rows = list(client.query_and_wait(f"SELECT id, ssn FROM {TABLE} ORDER BY id LIMIT 3"))

    assert [(row.id, row.ssn) for row in rows] == [(1, HIDDEN), (2, HIDDEN), (3, HIDDEN)]


def test_nested_fields_are_masked_by_path(client: bigquery.Client) -> None:
    (row,) = client.query_and_wait(f"SELECT contact, tags FROM {TABLE} WHERE id = 7 LIMIT 1")

    assert row.contact == {"phone": "[PHONE]", "email": HIDDEN}  # by the net under what no rule covers, and by its rule
    assert row.tags == ["a", "b"]


def test_parameters_of_every_form(client: bigquery.Client) -> None:
    named = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("low", "INT64", 2),
            bigquery.ArrayQueryParameter("wards", "INT64", [2, 3]),
            bigquery.StructQueryParameter("s", bigquery.ScalarQueryParameter("high", "INT64", 3)),
        ]
    )
    positional = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter(None, "INT64", 5)])
    where = "id >= @low AND id <= @s.high AND ward IN UNNEST(@wards)"

    by_name = client.query_and_wait(f"SELECT id, ssn FROM {TABLE} WHERE {where} ORDER BY id", job_config=named)
    by_place = client.query_and_wait(f"SELECT id FROM {TABLE} WHERE id = ?", job_config=positional)

    assert [(row.id, row.ssn) for row in by_name] == [(2, HIDDEN), (3, HIDDEN)]
    assert [row.id for row in by_place] == [5]


def test_paging_over_every_row(client: bigquery.Client) -> None:
    rows = client.query(f"SELECT id, ssn FROM {TABLE}").result(page_size=10_000)

    seen, pages = set(), 0
    for page in rows.pages:
        pages += 1
        for row in page:
            assert row.ssn == HIDDEN
            seen.add(row.id)

    assert pages == 4
    assert seen == set(range(1, PATIENTS + 1))


def test_dataframe_and_arrow_with_the_storage_library_installed(client: bigquery.Client) -> None:
    """The storage library reads past any endpoint when it knows a destination table: it must not learn one."""
    import google.cloud.bigquery_storage  # noqa: F401  the control: it is there to be used

    job = client.query(f"SELECT id, ssn, score FROM {TABLE} ORDER BY id LIMIT 2000")
    frame = job.to_dataframe()
    arrow = client.query(f"SELECT id, ssn FROM {TABLE} LIMIT 50").to_arrow()

    assert job.destination is None
    assert (len(frame), set(frame["ssn"])) == (2000, {HIDDEN})
    assert (arrow.num_rows, set(arrow.column("ssn").to_pylist())) == (50, {HIDDEN})


def test_timestamps_keep_their_values(client: bigquery.Client) -> None:
    (row,) = client.query_and_wait(f"SELECT seen_at FROM {TABLE} WHERE id = 1")

    assert row.seen_at == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def test_dry_run_runs_nothing(client: bigquery.Client, service: Service) -> None:
    job = client.query(f"SELECT ssn FROM {TABLE} LIMIT 5", job_config=bigquery.QueryJobConfig(dry_run=True))

    assert job.total_bytes_processed == 10 * 1024 * 1024
    assert [field.name for field in job.schema] == ["ssn"]
    assert job.labels["hoopweb_decision"] == "allow"
    begun = [
        seen for seen in service.shim.requests if seen.path.startswith("/bigquery/") and seen.path.endswith("/jobs")
    ]
    sent = [seen.body["configuration"] for seen in begun]
    assert all(configuration.get("dryRun") for configuration in sent[-2:])


def test_limit_of_bytes_is_passed_on(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(maximum_bytes_billed=1)

    with pytest.raises(BadRequest, match="bytes billed"):
        client.query(f"SELECT id FROM {TABLE} LIMIT 1", job_config=config).result()


def test_mistakes_are_explained(client: bigquery.Client) -> None:
    with pytest.raises(BadRequest):
        client.query_and_wait("SELEC 1")
    with pytest.raises((BadRequest, NotFound)):
        client.query_and_wait(f"SELECT id FROM {DATASET}.nothing_here")


def test_error_loses_its_value(client: bigquery.Client, service: Service) -> None:
    text = f"SELECT SUM(CAST(first_name AS INT64)) FROM {TABLE} WHERE id = 77"
    with pytest.raises(AssertionError, match="First77"):  # the control
        service.sql(text)

    with pytest.raises((BadRequest, Forbidden)) as caught:
        client.query_and_wait(text)

    assert "First77" not in str(caught.value)


def test_metadata_says_what_is_masked(client: bigquery.Client) -> None:
    assert DATASET in [item.dataset_id for item in client.list_datasets()]
    assert "patients" in [item.table_id for item in client.list_tables(DATASET)]
    fields = {field.name: field for field in client.get_table(f"{PROJECT}.{TABLE}").schema}

    assert fields["ssn"].description == "masked by the gateway: redact (rule bq-ssn)"
    assert fields["id"].description is None
    assert {f.name: f.description for f in fields["contact"].fields}["email"] is not None


def test_table_read_as_it_lies_is_masked(client: bigquery.Client) -> None:
    table = client.get_table(f"{PROJECT}.{TABLE}")

    rows = list(client.list_rows(table, max_results=20))
    chosen = list(client.list_rows(table, selected_fields=[table.schema[1]], max_results=3, start_index=5))

    assert {row.ssn for row in rows} == {HIDDEN}
    assert [tuple(row) for row in chosen] == [(HIDDEN,)] * 3


def test_own_jobs_only(client: bigquery.Client) -> None:
    job = client.query(f"SELECT id FROM {TABLE} LIMIT 1")
    job.result()

    assert job.job_id in [listed.job_id for listed in client.list_jobs(all_users=True)]
    with pytest.raises(NotFound):
        client.get_job("somebody-elses")


def test_job_id_is_the_clients_own_and_once(client: bigquery.Client) -> None:
    first = client.query("SELECT 1 AS one", job_id="mine-1", retry=None, job_retry=None)

    assert first.job_id == "mine-1"
    assert [row.one for row in first.result()] == [1]
    assert [row.one for row in client.get_job("mine-1").result()] == [1]  # once more: on the record once more


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("update", lambda client: client.update_table(bigquery.Table(f"{PROJECT}.{TABLE}"), ["description"])),
        ("create", lambda client: client.create_dataset("other")),
    ],
)
def test_what_is_not_served_says_what_to_do_instead(client: bigquery.Client, name: str, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Forbidden, match="not served"):
        call(client)


def test_anonymous_tables_cannot_be_read(client: bigquery.Client, service: Service) -> None:
    client.query_and_wait(f"SELECT ssn FROM {TABLE} LIMIT 1")

    with pytest.raises(NotFound):
        list(
            client.list_rows(f"{PROJECT}._bqemu_anonymous.anon", selected_fields=[bigquery.SchemaField("a", "STRING")])
        )
    assert not [item for item in client.list_datasets() if item.dataset_id.startswith("_")]
