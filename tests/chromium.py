"""Debian's Chromium, for the tests that look at pages the way a person does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A browser that runs until the block ends. To start one costs a second of a core: let a module's tests share it,
    each in a context of its own, which shares nothing with another."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
