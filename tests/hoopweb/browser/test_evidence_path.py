"""Somebody new to the product finds who saw a patient: from the landing page two clicks and a number away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.hoopweb.browser.test_pages import (  # noqa: F401  `browser` and `history` are fixtures
    _AXE,
    _AXE_RUN,
    WIDTHS,
    Browser,
    Walk,
    browser,
    history,
    pytestmark,
    signed_in,
)
from tests.stack import Stack

PATIENT = "2"  # `history` showed the first three


@pytest.fixture(params=["light", "dark"])
def auditor(browser: Browser, stack: Stack, history: str, request: pytest.FixtureRequest) -> Iterator[Page]:  # noqa: F811
    walk = Walk()
    page = signed_in(browser, stack, "auditor", walk)
    page.emulate_media(color_scheme=request.param)
    page.evaluate("theme => localStorage.setItem('adminTheme', JSON.stringify(theme))", request.param)
    page.goto(f"{stack.demo['web_url']}/admin/")
    yield page
    page.context.close()
    assert walk.complaints == []


def seen(page: Page, name: str, request: pytest.FixtureRequest) -> None:
    """Fits at both widths, and axe finds nothing serious, whichever the colours."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if directory := os.environ.get("HOOPWEB_SCREENSHOTS"):
            page.screenshot(path=Path(directory) / f"{name}_{request.node.callspec.id}_{width}.png", full_page=True)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.evaluate(_AXE)
    assert page.evaluate(_AXE_RUN) == []


@pytest.mark.by_turns(2)
def test_who_saw_a_patient_last_month_is_two_clicks_away(auditor: Page, request: pytest.FixtureRequest) -> None:
    auditor.locator("#main").get_by_role("link", name="Who saw a patient?").click()
    auditor.get_by_label("Number of the patient").fill(PATIENT)  # the period is the last month as it stands
    auditor.get_by_role("button", name="Who saw it?").click()

    row = auditor.get_by_role("region", name="Who saw it").get_by_role("row").nth(1)
    said = row.inner_text()
    assert "demo-agent" in said
    assert "ssn" in said
    seen(auditor, "accounting", request)

    row.get_by_role("link", name="replay").click()
    auditor.wait_for_load_state()  # the buttons do something once the page's script has run
    auditor.get_by_role("button", name="Show the result").first.click()
    auditor.get_by_text("[REDACTED]").first.wait_for()
    seen(auditor, "replay", request)


def test_whose_records_an_agent_saw_is_one_form(auditor: Page, stack: Stack, request: pytest.FixtureRequest) -> None:
    auditor.goto(f"{stack.demo['web_url']}/admin/audit/statementrecord/subjects/seen/")
    auditor.get_by_label("Agent or person").fill("demo-agent")
    auditor.get_by_role("button", name="Whose records?").click()

    assert "patient" in auditor.locator("#main").inner_text()
    seen(auditor, "seen", request)
