"""The review page in a real browser, as a reviewer uses it: keyboard, live preview, phone width."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission
from playwright.sync_api import Browser

from approvals.domain.emergency import break_glass
from approvals.models import EmergencyRoster, Review
from tests.approvals.factories import held, write_request
from tests.chromium import running_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.approvals.urls"),
]
ASKED = "UPDATE patients\n   SET phone = '555-0100',\n       note = 'p\u0430id\u202e'\n WHERE id = 7"
BETTER = "UPDATE patients\n   SET phone = NULL\n WHERE id = 7"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's synchronous API runs inside its own event loop, which Django would take for asynchronous code.
    with pytest.MonkeyPatch.context() as environment, running_chromium() as running:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield running


@pytest.fixture
def open_page(browser, live_server, client, reviewer):
    """Opens a page as a signed-in reviewer at a width; `complaints` collects what the console says."""
    client.force_login(reviewer)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
    contexts = []

    def opened(path, width=1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.add_cookies([cookie])
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(live_server.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()


def test_reviewer_modifies_a_statement_by_keyboard(open_page):
    review = held(statement=ASKED, request=write_request(text=ASKED))
    page = open_page(review.get_absolute_url())

    page.keyboard.press("e")
    page.fill("[data-edit]", BETTER)
    page.wait_for_selector("[data-preview] .plus")
    assert page.is_disabled("[data-key=a]")  # it would approve the text as it was asked
    page.fill("#reason", "the number is enough")
    page.click("text=Approve the changed text")
    page.wait_for_selector(".banner.success")

    assert Review.objects.get().status == "approved"
    assert page.inner_text("[data-status]") == "approved"
    # This test's server speaks no WebSocket; anything else (a refused script or style, an exception) is a defect.
    assert [text for text in page.complaints if "WebSocket" not in text] == []


def test_reviewer_is_asked_for_a_reason(open_page):
    page = open_page(held().get_absolute_url())

    page.keyboard.press("d")
    assert page.evaluate("document.activeElement.id") == "reason"
    page.click("[data-key=d]")

    assert Review.objects.get().status == "pending"


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_their_width(open_page, width, reviewer):
    reviewer.user_permissions.add(Permission.objects.get(codename="view_policy"))
    review = held(statement=ASKED + " -- " + "x" * 500, request=write_request(text=ASKED))

    roster = EmergencyRoster.objects.create(
        name="er", connections=["clinic"], members=["reviewer"], reviewers=["privacy-officers"]
    )
    access = break_glass(
        person=reviewer, roster=roster, connection="clinic", reason="an emergency in the emergency room " + "x" * 300
    )
    pages = ("/reviews/", review.get_absolute_url(), "/reviews/grants/")
    for path in (*pages, "/reviews/emergencies/", access.get_absolute_url(), "/reviews/simulator/"):
        page = open_page(path, width)
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_statement_looks_the_way_it_is_written(open_page):
    page = open_page(held(statement=ASKED, request=write_request(text=ASKED)).get_absolute_url())

    lines = page.locator("[aria-label=Statement] .l").all_inner_texts()

    assert lines == [
        "UPDATE patients",
        "   SET phone = '555-0100',",
        "       note = 'p\u0430id⟨U+202E⟩'",
        " WHERE id = 7",
    ]


def test_inbox_is_walked_and_opened_by_keyboard(open_page):
    reviews = [held(parameters=(str(number).encode(),)) for number in range(3)]
    page = open_page("/reviews/")

    page.keyboard.press("?")
    assert page.is_visible("[data-keys]")
    for key in "jjk":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-decide]")

    assert page.url.endswith(reviews[0].get_absolute_url())


def test_what_was_said_survives_the_page_renewing_itself(open_page):
    page = open_page(held().get_absolute_url())
    page.fill("#reason", "looked at it")
    page.click("[data-key=a]")
    page.wait_for_selector(".banner.success")

    with page.expect_navigation():
        page.evaluate("reloadOrTell()")  # what the socket does when the held client has run it
    page.wait_for_selector(".banner.success")

    assert "Approved" in page.inner_text(".banner.success")
    page.reload()
    assert page.locator(".banner.success").count() == 0
