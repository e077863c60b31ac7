"""The set of relaxed patterns may only skip work, never findings: with every pattern run, nothing more is found."""

from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from masking.detectors import structured
from masking.detectors import text as text_module
from masking.detectors.normal import normal_form
from masking.detectors.text import detect
from masking.detectors.watch import PROSE, hits_of, relaxed
from tests.masking.asq_phi import DEVELOPMENT_HALF, records
from tests.masking.test_detectors import CLEAN, FOUND


def detect_with_everything(text: str) -> list[tuple[int, int]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_module, "hits_of", lambda _text: PROSE.everything())
        return [(span.start, span.end) for span in detect(text)]


def found(text: str) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in detect(text)]


def found_by_shape(text: str, *, bare_digits: bool) -> list[tuple[int, int, str]]:
    spans = structured.detect_structured(text, bare_digits=bare_digits)
    return [(span.start, span.end, span.cls) for span in spans]


def found_by_every_shape(text: str, *, bare_digits: bool) -> list[tuple[int, int, str]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structured.SHAPES, "hits_of", lambda _text: structured.SHAPES.everything())
        return found_by_shape(text, bare_digits=bare_digits)


@pytest.mark.parametrize("text", [*(row[0] for row in FOUND), *CLEAN])
def test_prefilter_loses_nothing(text: str) -> None:
    assert found(text) == detect_with_everything(text)


@pytest.mark.skipif(not DEVELOPMENT_HALF.exists(), reason="the ASQ-PHI development half is not beside this checkout")
def test_prefilter_loses_nothing_over_clinical_queries() -> None:
    for record in records():
        assert found(record.text) == detect_with_everything(record.text)


WORDS = (
    "Maria Garcia|john smith|SMITH, JOHN|Dr.|O'Brien|541-82-6637|(415) 555-0123|MRN|0012345|policy no.|#|:|Boston|MA"
    "|02139|new  york|3/5/23|2023-03-05|March 3rd|last week|aged 93|12 Elm St|Hospital|at|in|patient|1EG4-TE5-MK73"
    "|4111 1111 1111 1111|::1|10.0.0.1|a@b.org|www.x.org|.|,|-|/|ID|_|x"
)
ODDITIES = [
    "\n",
    "\t",
    "\x0b",
    "\x1c",
    "\u2028",
    "\xb0",
    "\u2013",
    "\xe9",
    "\u0131",
    "\u017f",
    "\u212a",
    "\u6f22",
    "\u0416",
]
PIECES = st.sampled_from([*WORDS.split("|"), *ODDITIES])


@given(text=st.lists(PIECES | st.text(max_size=3), max_size=12).map(" ".join))
def test_every_pattern_that_matches_is_among_the_hits(text: str) -> None:
    plain = normal_form(text)
    hits = hits_of(plain)

    triggered_by_words = {w.index for w in PROSE.watched if w.relaxed.startswith(("(?i:\\b(?:", "\\b(?:"))}
    missed = [
        w.pattern.pattern for w in PROSE.watched if w.index not in hits | triggered_by_words and w.pattern.search(plain)
    ]

    assert missed == []
    assert found(text) == detect_with_everything(text)


@given(
    text=st.lists(PIECES | st.text(max_size=3), max_size=4).map("".join)
    | st.lists(PIECES | st.text(max_size=3), max_size=4).map(" ".join)
    | st.text("0123456789abcdefxX-:. /@[()]*+MRNSwW", max_size=30),
    bare_digits=st.booleans(),
)
def test_every_shape_of_a_short_value_that_matches_is_among_the_hits(text: str, bare_digits: bool) -> None:
    plain = normal_form(text)
    hits = structured.SHAPES.hits_of(plain)

    missed = [w.index for w in structured.SHAPES.watched if w.index not in hits and w.pattern.search(plain)]

    assert missed == []
    assert found_by_shape(text, bare_digits=bare_digits) == found_by_every_shape(text, bare_digits=bare_digits)


def test_a_letter_that_stands_for_an_ascii_one_is_still_none_at_an_edge() -> None:
    """A dotless i is no `[A-Za-z]`, though `(?i:i)` takes it."""
    assert found_by_shape("\u0131MRN0012345", bare_digits=False) == [(1, 11, "mrn")]


@pytest.mark.parametrize(
    ("pattern", "text", "other"),
    [
        (r"(?<![\w-])\d{3}(?!\w)", "-123 a123 1234 (456)", "a123 -123 1234"),
        (r"(?<=[a-z]\s)in\b", "was in", "was out"),
        (r"(\d)([-/])\d\2\d", "1-2-3", "123"),
        (r"(?P<x>a|b)(?=c)c", "bc", "b"),
        (r"a$|b", "a\n", "c"),
        (r"[\s]x", "\x1cx", "x"),
    ],
)
def test_relaxed_pattern_matches_wherever_the_precise_one_does(pattern: str, text: str, other: str) -> None:
    loose = re2.compile(relaxed(pattern))

    assert re.search(pattern, text)
    assert loose.search(text)
    assert loose.search(other) is None


def test_clean_prose_triggers_nothing() -> None:
    assert hits_of("the lungs are clear and the abdomen is soft without tenderness; no new complaints.") == frozenset()
