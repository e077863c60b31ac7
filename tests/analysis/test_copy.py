"""How a COPY frames its rows, in every spelling clients use."""

from __future__ import annotations

import pytest

from analysis.lexer import tokenize
from analysis.statement import CopyFormat
from analysis.utility_copy import read_copy
from analysis.utility_shape import StatementText

TEXT = CopyFormat("text", "\t", "\\N")
KNOWN = {
    "": TEXT,
    "WITH BINARY": CopyFormat("binary", "\t", "\\N"),
    "CSV HEADER": CopyFormat("csv", ",", "", header=True),
    "(FORMAT csv, DELIMITER E'\\t')": CopyFormat("csv", "\t", ""),
    "WITH (DELIMITER E'\\x7c', NULL 'n')": CopyFormat("text", "|", "n"),
    "WITH DELIMITER AS '|' NULL AS ''": CopyFormat("text", "|", ""),
    "(FORMAT csv, QUOTE $$'$$, ESCAPE U&'\\005c')": CopyFormat("csv", ",", "", quote="'", escape="\\"),
    "DELIMITER E'\\t' NULL AS E'\\\\N'": TEXT,
    "(ENCODING 'UTF8')": TEXT,
    "(FORMAT CSV, QUOTE Q, NULL None)": CopyFormat("csv", ",", "none", quote="q", escape="q"),
}
UNKNOWN = [
    "(DELIMITER E'\\q')", "(DELIMITER U&'!007c' UESCAPE '!')", "(DELIMITER B'1')", "DELIMITERS '|'",
    "(ENCODING 'LATIN1')", "(FORCE_ARRAY)", "(FORMAT parquet)",
    # The server takes the name without its quotes, and the number's value: 5 each time.
    '(FORMAT csv, QUOTE "5")', "(FORMAT csv, QUOTE 0x5)", "(FORMAT csv, QUOTE 05)", "(FORMAT csv, ESCAPE 5)",
    '(DELIMITER "|")', '(FORMAT "csv")', "(NULL 0x10)", "(NULL É)",
]  # fmt: skip


def read(options: str) -> tuple[CopyFormat | None, tuple[str, ...]]:
    text = f"COPY t TO STDOUT {options}"
    utility = read_copy(StatementText(text, tokenize(text)))
    return utility.copy, utility.problems


@pytest.mark.parametrize(("options", "framing"), KNOWN.items())
def test_framing_is_read_in_every_spelling(options: str, framing: CopyFormat) -> None:
    assert read(options) == (framing, ())


@pytest.mark.parametrize("options", UNKNOWN)
def test_what_is_not_understood_is_a_problem(options: str) -> None:
    assert read(options)[1]
