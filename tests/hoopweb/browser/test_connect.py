"""The guided set-up, as a newcomer: a second PostgreSQL with a schema nobody has seen, to an agent that is governed.

Every step in a real browser; then a real client connects as the new agent, finds its values masked and its bulk read
held, and a reviewer approves in the browser.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, Page
from psycopg import sql

from tests.chromium import needs_chromium, running_chromium
from tests.hoopweb.browser.test_pages import Walk, signed_in
from tests.stack import Stack

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    needs_chromium,
]

NAME = f"ward{time.time_ns() % 1_000_000}"  # new with every run: a stack may be tested twice
SCHEMA = """
    CREATE SCHEMA care;
    CREATE TABLE care.person (person_key bigint PRIMARY KEY, surname text, social_security_number text, birth_date date,
                              ward text, home_phone text, band text);
    INSERT INTO care.person SELECT n, 'Okonkwo', '541-88-' || lpad(n::text, 4, '0'), date '1950-01-01' + n::int,
                                   'B' || n % 7, '(555) 010-' || lpad(n::text, 4, '0'), 'Q' || n
                              FROM generate_series(1, 1500) n;
    ANALYZE care.person;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")
def ward(stack: Stack) -> str:
    """A database beside the clinic, with a role of its own that may read and write; the role's name and password."""
    with psycopg.connect(stack.superuser_dsn("postgres"), autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(NAME), sql.Literal(NAME)))
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
    with psycopg.connect(stack.superuser_dsn(NAME), autocommit=True) as owner:
        owner.execute(SCHEMA)
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA care TO {0}").format(sql.Identifier(NAME)))
        owner.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA care TO {}").format(sql.Identifier(NAME))
        )
    return NAME


def fill_database(page: Page, stack: Stack, *, password: str, name: str = NAME) -> None:
    upstream = stack.demo["upstream"]
    page.fill("[name=name]", name)
    page.fill("[name=host]", str(upstream["host"]))
    page.fill("[name=port]", str(upstream["port"]))
    page.fill("[name=database]", NAME)
    page.fill("[name=username]", NAME)
    page.fill("[name=password]", password)
    page.select_option("[name=tls]", "disable")
    page.click(".console form button[type=submit]")


def test_newcomer_connects_a_database_and_its_agent_is_governed(browser: Browser, stack: Stack, ward: str):
    walk = Walk()
    page = signed_in(browser, stack, "admin", walk)
    page.click("text=Connect a database")
    fill_database(page, stack, password=NAME)

    page.wait_for_url(f"**/connect/{NAME}/test/")
    assert "Reached." in page.inner_text(".console")
    assert "care.person" in page.inner_text(".console")
    page.click("text=Classify its columns")
    table = page.inner_text(".console table")
    for column in ("surname", "social_security_number", "birth_date", "home_phone"):
        assert f"care.person.{column}" in table
    assert "care.person.ward" not in table
    page.click("summary")  # what no name tells, a person may know
    page.check('[aria-label="Protect care.person.band"]')
    page.click("text=Mask these and go on")

    page.fill("[name=agents]", f"{NAME}-agents")
    page.click("text=Save the rules")
    page.fill("[name=name]", f"{NAME}-agent")
    page.fill("[name=purpose]", "counts people by ward")
    page.click("text=Register the agent")
    page.wait_for_url(f"**/use/{NAME}-agent/")
    assert f"dbname={NAME}" in page.inner_text(".console")
    page.click("text=See what")
    page.click("text=care.person")
    row = page.locator("tr", has_text="social_security_number").inner_text()
    assert "masked" in row
    assert "redact" in row
    page.context.close()

    assert [complaint for complaint in walk.complaints if "/connect/" in complaint or "/sees/" in complaint] == []
    token = stack.new_agent_token(f"{NAME}-agent")
    with psycopg.connect(
        stack.gateway_dsn(token=token, user=f"{NAME}-agent", connection=NAME), autocommit=True
    ) as agent:
        assert agent.execute("SELECT count(*) FROM care.person").fetchone() == (1500,)
        masked = agent.execute(
            "SELECT surname, social_security_number, band FROM care.person WHERE person_key = 1"
        ).fetchone()
    assert masked is not None
    assert not {"Okonkwo", "541-88-0001", "Q1"} & set(masked)
    held = stack.rest(
        "POST",
        f"/api/v1/connections/{NAME}/statements",
        token=token,
        json={"statement": "SELECT surname, ward FROM care.person"},
    )
    assert held.status_code == 202, held.text
    assert_approved_in_the_browser(browser, stack, held.json()["review"]["url"])


def assert_approved_in_the_browser(browser: Browser, stack: Stack, url: str) -> None:
    page = signed_in(browser, stack, "reviewer", Walk())
    page.goto(url)
    page.fill("[name=reason]", "the ward asked for its list")
    page.click("button[value=approve]")
    page.wait_for_selector("text=Approved")
    page.context.close()


def test_a_mistyped_password_is_mended_within_the_set_up(browser: Browser, stack: Stack, ward: str) -> None:
    walk = Walk()
    page = signed_in(browser, stack, "admin", walk)
    page.goto(f"{stack.demo['web_url']}/admin/console/connect/")
    fill_database(page, stack, password="canary-wrong", name=f"{NAME}x")
    page.wait_for_url("**/test/")
    told = page.inner_text(".console")
    assert "the user name or the password is wrong" in told
    assert "canary-wrong" not in told + page.content()

    page.click("text=Change what was given")
    page.wait_for_url(f"**/connect/{NAME}x/change/")
    assert page.input_value("[name=database]") == NAME
    assert page.input_value("[name=password]") == ""
    assert page.is_disabled("[name=name]")
    page.fill("[name=password]", f"{NAME}")
    page.fill("[name=host]", "db.example.org")  # in clear to another machine: refused, beside the field it is about
    page.click(".console form button[type=submit]")
    assert "give it again" in page.inner_text(".field:has([name=password])")
    assert page.input_value("[name=password]") == ""
    page.fill("[name=host]", str(stack.demo["upstream"]["host"]))
    page.fill("[name=password]", NAME)
    page.click(".console form button[type=submit]")
    page.wait_for_url(f"**/connect/{NAME}x/test/")

    assert "Reached." in page.inner_text(".console")
    page.click(".steps >> text=Database")
    page.click(".console form button[type=submit]")  # nothing changed, and the password is kept
    page.wait_for_url(f"**/connect/{NAME}x/test/")
    assert "Reached." in page.inner_text(".console")
    page.context.close()
    assert walk.complaints == []


def test_a_warehouse_is_asked_what_it_needs_and_no_key_is_shown_again(browser: Browser, stack: Stack) -> None:
    walk = Walk()
    page = signed_in(browser, stack, "admin", walk)
    page.goto(f"{stack.demo['web_url']}/admin/console/connect/")
    page.click(".console .chips >> text=BigQuery")
    assert page.locator("[name=host]").count() == 0
    key = {"type": "service_account", "client_email": "gateway@p.example", "private_key": "canary-key"}
    page.fill("[name=name]", f"{NAME}-warehouse")
    page.fill("[name=project]", "demo-project")
    page.fill("[name=api_endpoint]", "http://127.0.0.1:9")
    page.fill("[name=key]", json.dumps({**key, "type": "authorized_user"}))
    page.click(".console form button[type=submit]")
    assert "this is not the JSON file of a service-account key" in page.inner_text(".console")
    assert "canary-key" not in page.content()

    page.fill("[name=key]", json.dumps(key))
    page.click(".console form button[type=submit]")
    page.wait_for_url(f"**/connect/{NAME}-warehouse/test/")

    told = page.inner_text(".console")
    assert "Google did not take the service-account key" in told
    assert "Reached." not in told
    assert "canary-key" not in page.content()
    page.goto(f"{stack.demo['web_url']}/admin/console/connect/{NAME}-warehouse/use/demo-agent/")
    told = page.inner_text(".console")
    assert all(name in told for name in ("external_account", "bq --api", "BIGQUERY_EMULATOR_HOST"))
    page.context.close()
    assert walk.complaints == []
