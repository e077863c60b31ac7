"""What an execution says of itself when it is over."""

from __future__ import annotations

import pytest

from gateway.session.permit import Outcome


@pytest.mark.parametrize(
    ("tag", "returned", "moved"),
    [
        ("SELECT 3", 3, 3),
        ("UPDATE 12000", 0, 12000),
        ("DELETE 7", 0, 7),
        ("INSERT 0 250", 0, 250),
        ("MERGE 9", 0, 9),
        ("COPY 40", 0, 40),
        ("UPDATE 5", 5, 5),  # RETURNING
        ("CREATE TABLE", 0, 0),
        ("", 4, 4),
        ("UPDATE \u0661", 0, 0),
        ("UPDATE " + "9" * 400, 0, 0),
    ],
)
def test_rows_moved_are_those_returned_or_changed(tag: str, returned: int, moved: int) -> None:
    assert Outcome(status="completed", rows=returned, command_tag=tag).rows_moved == moved
