"""The table of kinds, the documentation and the code name the same things."""

from __future__ import annotations

import re
from pathlib import Path

from audit.domain.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]
APPS = ("analysis", "approvals", "audit", "gateway", "hoopweb", "masking")
# Entry(kind="…"), record("…", review), _record("…", …), _statement_entry("…", …)
WRITTEN = re.compile(r"""(?:Entry\(\s*kind=|\brecord\(\s*|_record\(\s*|_statement_entry\(\s*)"([a-z_]+\.[a-z_]+)\"""")
CONSTANT = re.compile(r"""^[A-Z_]+ = "((?:recording|review|grant|break_glass)\.[a-z_]+)"$""", re.MULTILINE)


def written_kinds() -> set[str]:
    kinds: set[str] = set()
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            kinds |= set(WRITTEN.findall(text)) | set(CONSTANT.findall(text))
    return kinds


def test_every_kind_that_is_written_is_explained():
    assert written_kinds() - set(KINDS) == set()


def test_the_reader_of_the_code_finds_the_kinds_at_all():
    assert {"session.opened", "statement.authorised", "review.decided", "key.rotated"} <= written_kinds()


def test_documentation_lists_every_kind():
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")

    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
