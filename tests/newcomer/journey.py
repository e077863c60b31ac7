"""A newcomer's first hour as code: a second PostgreSQL, a browser, psql, a reviewer, the evidence, an offline check.

Nothing here imports the product: commands are started in the copy's own directory as the README prints them, pages are
clicked, files come out of the browser's downloads. `COMMANDS` is all that is typed; a test finds each in the README.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page

COMMANDS = {
    "password": ".venv/bin/python manage.py demo users.{user}.password",
    "token": ".venv/bin/python manage.py agent_token {agent}",
    "psql": ".venv/bin/psql {address} -c {statement}",
    "vkey": ".venv/bin/python manage.py demo audit_vkey",
    "verify": ".venv/bin/python manage.py audit_verify {file} --key {key}",
}


@dataclass(frozen=True)
class Newcomer:
    """Somebody with a clone that runs, and a database of theirs that it has never seen."""

    directory: Path
    environment: Mapping[str, str]
    web_url: str
    postgres_port: int
    browser: Browser
    database: Mapping[str, str]  # name, host, port, database, username, password: as the set-up's form asks
    took: dict[str, float] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)

    def type(self, command: str, *, expect: int = 0, **values: str) -> str:
        """Run one of COMMANDS to its end; returns what it printed."""
        process = self.start(command, **values)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == expect, printed
        return printed.strip()

    def start(self, command: str, **values: str) -> subprocess.Popen[str]:
        line = COMMANDS[command].format(**{name: shlex.quote(value) for name, value in values.items()})
        self.typed.append(COMMANDS[command])
        return subprocess.Popen(
            ["/bin/bash", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env={**self.environment, "PAGER": "cat"},
        )

    def psql(self, statement: str, token: str) -> subprocess.Popen[str]:
        address = f"host=127.0.0.1 port={self.postgres_port} dbname={self.name} user={self.name}-agent password={token}"
        return self.start("psql", address=address, statement=statement)

    @property
    def name(self) -> str:
        return self.database["name"]

    def signed_in(self, user: str) -> Page:
        page = self.browser.new_context(accept_downloads=True).new_page()
        page.set_default_timeout(120_000)  # the machine may be busy
        page.goto(f"{self.web_url}/admin/")
        page.fill("[name=username]", user)
        page.fill("[name=password]", self.type("password", user=user))
        page.click("[type=submit]")
        page.wait_for_url("**/admin/")
        return page

    def timed(self, step: str, act: Callable[[], None]) -> None:
        began = time.monotonic()
        act()
        self.took[step] = round(time.monotonic() - began, 1)


def connect_the_database(newcomer: Newcomer) -> None:
    """The guided set-up, page by page."""
    page = newcomer.signed_in("admin")
    page.click("text=Connect a database")
    for field_name, value in newcomer.database.items():
        page.fill(f"[name={field_name}]", value)
    page.select_option("[name=tls]", "disable")
    page.click(".console form button[type=submit]")
    page.wait_for_url(f"**/connect/{newcomer.name}/test/")
    assert "Reached." in page.inner_text(".console")
    page.click("text=Classify its columns")
    proposed = page.inner_text(".console table")
    for column in ("family_name", "mobile"):
        assert f"ward_book.guest.{column}" in proposed, proposed
    page.click("summary")  # what no name tells, a person may know
    for column in ("nhs_number", "born_on"):
        page.check(f'[aria-label="Protect ward_book.guest.{column}"]')
    page.click("text=Mask these and go on")
    page.fill("[name=agents]", f"{newcomer.name}-agents")
    page.click("text=Save the rules")
    page.fill("[name=name]", f"{newcomer.name}-agent")
    page.fill("[name=purpose]", "counts guests by ward")
    page.click("text=Register the agent")
    page.wait_for_url(f"**/use/{newcomer.name}-agent/")
    assert f"dbname={newcomer.name}" in page.inner_text(".console")
    page.context.close()


def ask_as_the_agent(newcomer: Newcomer) -> None:
    """psql, an ordinary one: counts are clear, identities masked, and a bulk read waits for a person."""
    token = newcomer.type("token", agent=f"{newcomer.name}-agent")
    counted = _printed(newcomer.psql("SELECT count(*) FROM ward_book.guest", token))
    assert "2400" in counted, counted
    shown = _printed(newcomer.psql("SELECT * FROM ward_book.guest WHERE guest_no = 1", token))
    assert not [clear for clear in ("Abernathy", "943 476 0001", "1951-03-02", "555-0001") if clear in shown], shown
    assert "W1" in shown, shown
    waiting = newcomer.psql("SELECT guest_no, ward, family_name FROM ward_book.guest", token)
    approve_in_the_browser(newcomer, _review_of(waiting))
    answer = _printed(waiting)
    assert "(2400 rows)" in answer, answer[-400:]
    assert "Abernathy" not in answer


def approve_in_the_browser(newcomer: Newcomer, url: str) -> None:
    page = newcomer.signed_in("reviewer")
    page.goto(url)
    page.fill("[name=reason]", "the ward asked for its list")
    page.click("button[value=approve]")
    page.wait_for_selector("text=Approved")
    page.context.close()


def take_the_evidence(newcomer: Newcomer, files: Path) -> None:
    """As the auditor: a report with the proof of its period, downloaded, and checked with a public key alone."""
    page = newcomer.signed_in("auditor")
    page.click("text=Reports")
    page.select_option("[name=report]", "activity")
    page.click("text=Make PDF, CSV and proof")
    page.wait_for_selector("h2:has-text('Files')", timeout=180_000)
    with page.expect_download() as downloading:
        page.locator("tr", has_text=".zip").get_by_role("button", name="Download").click()
    archive = files / downloading.value.suggested_filename
    downloading.value.save_as(archive)
    page.context.close()
    with zipfile.ZipFile(archive) as opened:
        opened.extract("proof.bundle", files)
        names = opened.namelist()
    assert {name.rpartition(".")[2] for name in names} >= {"pdf", "csv", "bundle"}, names
    key = newcomer.type("vkey")
    assert "intact:" in newcomer.type("verify", file=str(files / "proof.bundle"), key=key)
    damaged = bytearray((files / "proof.bundle").read_bytes())
    place = damaged.index(newcomer.name.encode())
    damaged[place : place + 4] = b"fake"
    (files / "damaged.bundle").write_bytes(damaged)
    refused = newcomer.start("verify", file=str(files / "damaged.bundle"), key=key)
    refused.communicate(timeout=120)
    assert refused.returncode != 0


def whole_journey(newcomer: Newcomer, files: Path) -> None:
    newcomer.timed("guided set-up", lambda: connect_the_database(newcomer))
    newcomer.timed("agent with psql, approval", lambda: ask_as_the_agent(newcomer))
    newcomer.timed("evidence", lambda: take_the_evidence(newcomer, files))


def _printed(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    return printed


def _review_of(process: subprocess.Popen[str]) -> str:
    """The address psql printed while its statement waits."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+/reviews/\S+", line)
    assert found is not None, line
    return found[0]


def demo_of(home: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((home / "demo.json").read_text(encoding="utf-8"))
    return content
