"""Every page of the product in a real browser, as each kind of person, on a desk and on a phone.

Pages are found by following links from the overview and the inbox, so a new one is covered when it is linked. A page
passes when it answers below 400, fits its width, has a title, and the browser has nothing to complain about (inline
scripts and styles among it: the policy forbids them). One page of each kind is also shown to axe-core, which must find
no serious violation of WCAG 2 A or AA. Lists and forms of half of the models are looked at in a run, by turns, and half
of the kinds of pages by axe-core.
HOOPWEB_SCREENSHOTS names a directory that then receives a picture of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, Response

from tests.chromium import needs_chromium, running_chromium
from tests.stack import Stack
from tests.turn import SOAKING, TURN

WIDTHS = (1280, 390)
START = ("/admin/", "/reviews/")
_CHANGES = re.compile(r"/(add|delete|password)/$")
# Pages of one shape differ in their data only: ids, and what a filter or a search narrows.
_ID = re.compile(
    r"[0-9a-f-]{20,}|(?<=/)\d+(?=/)|(?<=/connect/)[^/]+|(?<=/console/agents/)[^/]+|(?<=/use/)[^/]+"
    r"|(?<=/retentionpolicy/)\w+(?=/(?:change|delete|history)/)"
)
_AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
# Django's two-list selector and its notes are Django's own.
_AXE_RUN = """() => axe.run({exclude: [".selector", ".help"]},
    {runOnly: ["wcag2a", "wcag2aa", "wcag21aa"], resultTypes: ["violations"]})
  .then(found => found.violations
    .filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.target.join(" ")).join(", ")}`))"""
# Lists and forms of models have one template each, and so have the applications; axe takes half a second a page.
_MODEL = re.compile(r"^/admin/(?!console/)\w+/(?:\w+/)?")
# Half of the models a run, by turns (tests/turn.py). All their lists tests/hoopweb/test_console.py opens.
_OF_A_MODEL = re.compile(r"^(/admin/(?!console/)\w+/\w+/)(?:(?:add|N/change)/)?$")
_EVERY_TURN = {"/admin/gateway/connection/", "/admin/audit/logentry/"}  # what the tests look for
# Deletion and history are Django's, one template each: the first one stands for the others, but in `make soak`.
_DJANGOS = re.compile(r"^/admin/(?!console/)\w+/\w+/N/(?=(?:delete|history)/$)")
_SKIPPED = re.compile(r"/(logout|static|oidc|openid|api)/")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    needs_chromium,
]


# The same pages as the administrator's, but for what may be changed, which tests/hoopweb/test_roles.py asks everywhere.
SECOND_LOOK = pytest.mark.skipif(not SOAKING, reason="the pages a second time: make soak")


@dataclass(slots=True)
class Walk:
    visited: dict[str, str] = field(default_factory=dict)  # path -> title
    complaints: list[str] = field(default_factory=list)


# Kinds of pages axe has looked at: what one person's page has wrong, another's has too.
_AXED: set[str] = set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")
def history(stack: Stack) -> str:
    """One statement of each fate, so that no list is empty: completed with masks, denied, and one waiting."""
    stack.psql("-c", "SELECT id, ssn, dob FROM patients WHERE id <= 3")
    stack.psql("-c", "DROP TABLE patients")
    asked = stack.rest(
        "POST",
        "/api/v1/connections/clinic/statements",
        json={"statement": "UPDATE patients SET phone = '(415) 555-0142' WHERE id = 42"},
    )
    assert asked.status_code == 202, asked.text
    return str(asked.json()["review"]["id"])


def signed_in(browser: Browser, stack: Stack, user: str, walk: Walk) -> Page:
    # What moves costs a picture for each step of it, and no page is looked at while it moves.
    page = browser.new_context(viewport={"width": WIDTHS[0], "height": 900}, reduced_motion="reduce").new_page()
    page.set_default_timeout(120_000)  # the machine may be busy
    account = stack.demo["users"][user]

    def complain(text: str) -> None:
        walk.complaints.append(f"{urlsplit(page.url).path}: {text}")

    page.on("console", lambda message: message.type in {"error", "warning"} and complain(message.text))
    page.on("pageerror", lambda error: complain(str(error)))
    page.on("response", lambda answer: answer.status >= 400 and complain(f"{answer.status} {answer.url}"))
    page.goto(f"{stack.demo['web_url']}/admin/")
    page.fill("[name=username]", account["username"])
    page.fill("[name=password]", account["password"])
    page.click("[type=submit]")
    page.wait_for_url("**/admin/")
    return page


def walk_pages(page: Page, stack: Stack, user: str, walk: Walk) -> None:
    todo, seen = list(START), set()
    while todo:
        path = todo.pop(0)
        shape = _ID.sub("N", path.partition("?")[0])
        alike = shape if SOAKING else _DJANGOS.sub("/admin/model/", shape)
        if alike in seen or not _has_its_turn(shape):
            continue
        seen.add(alike)
        answer = page.goto(stack.demo["web_url"] + path)
        walk.visited[path] = page.title()
        _look_at(page, answer, shape, user, walk)
        todo += _links(page, stack)


def _has_its_turn(shape: str) -> bool:
    model = _OF_A_MODEL.match(shape)
    return model is None or model[1] in _EVERY_TURN or _of_this_half(model[1])


def _of_this_half(name: str, *, turn: int = TURN, soaking: bool = SOAKING) -> bool:
    return soaking or (crc32(name.encode()) + turn) % 2 == 0


def _look_at(page: Page, answer: Response | None, shape: str, user: str, walk: Walk) -> None:
    assert answer is not None
    if "<" in page.title() or not page.title().strip():
        walk.complaints.append(f"{shape}: no title")
    opened_at = page.viewport_size["width"] if page.viewport_size else 0
    for width in sorted(WIDTHS, key=lambda width: width != opened_at):  # each width is laid out once
        page.set_viewport_size({"width": width, "height": 900})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            walk.complaints.append(f"{shape}: {needed} pixels wide at {width}")
        if directory := os.environ.get("HOOPWEB_SCREENSHOTS"):
            name = f"{user}_{shape.strip('/').replace('/', '_')}_{width}.png"
            page.screenshot(path=Path(directory) / name, full_page=width < 1000)
    kind = _MODEL.sub("/admin/model/", shape)
    if kind not in _AXED and _of_this_half(kind):
        _AXED.add(kind)
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.evaluate(_AXE)
        walk.complaints += [f"{shape}: {violation}" for violation in page.evaluate(_AXE_RUN)]


def _links(page: Page, stack: Stack) -> list[str]:
    base = stack.demo["web_url"]
    found = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
    paths = [link.removeprefix(base) for link in found if link.startswith(base)]
    return [path.partition("#")[0] for path in paths if path.startswith("/") and not _SKIPPED.match(path)]


@pytest.mark.parametrize("user", ["admin", "reviewer", pytest.param("auditor", marks=SECOND_LOOK)])
def test_every_page_opens_fits_and_is_quiet(browser: Browser, stack: Stack, history: str, user: str) -> None:
    walk = Walk()
    page = signed_in(browser, stack, user, walk)

    walk_pages(page, stack, user, walk)
    assert any(path.startswith("/reviews/") and path != "/reviews/" for path in walk.visited)
    page.context.close()

    assert walk.complaints == []
    if user == "admin":
        assert len(walk.visited) > 50
        assert any("/admin/gateway/connection/add/" in path for path in walk.visited)
    if user == "auditor":  # reads everything, changes nothing
        assert "/admin/audit/logentry/" in walk.visited
        assert not [path for path in walk.visited if _CHANGES.search(path)]
    if user == "reviewer":  # decides, and sees no configuration
        assert not [path for path in walk.visited if path.startswith(("/admin/gateway/", "/admin/audit/"))]
