"""Which texts have a template, and what is executed of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres import client, express
from gateway.protocols.postgres.client import Bind, Execute, Parse, Target
from gateway.protocols.postgres.templates import template_of

fast = pytest.importorskip("gateway.protocols.postgres._fast")


def template(text: bytes) -> bytes | None:
    return template_of(express.blank_integers(text))


@pytest.mark.parametrize(
    ("text", "expected", "count"),
    [
        (b"select a from t where b = 5", "select a from t where b = $1", 1),
        (b"SELECT a FROM t WHERE b=5;", "SELECT a FROM t WHERE b=$1", 1),
        (
            b"select a\nfrom t where (b >= 10) and c <> 4 order by d2",
            "select a\nfrom t where (b >= $1) and c <> $2 order by d2",
            2,
        ),
    ],
)
def test_template(text: bytes, expected: str, count: int) -> None:
    assert template(text) == client.encode_parse(Parse("", expected, (23,) * count))


@pytest.mark.parametrize(
    "text",
    [
        *(b"select a from t", b"select a from t limit 5", b"select a from t where b = 5 limit 5", b"select 5"),
        *(
            b"select a from t where b = 'x' and c = 5",
            b'select a from t where "b = 5" = 5',
            b"select a from t where b = 5 -- 6",
        ),
        *(
            b"select a from t where b = 5 /* = 5 */",
            b"select a from t where b = $1 and c = 5",
            b"select a from t where b => 5",
        ),
        *(b"select a from t where b == 5", b"select a from t where b *= 5", b"select a from t where b -> 5 = 5"),
        *(b"select a from t where b = -5", b"select a from t where b = - 5", b"select a from t where b in (5, 6)"),
        *(b"select a from t where b = 1234567890", b"select a from t where b = 5.5", b"select a from t where b = 5e5"),
        *(
            b"select a::int from t where b = 5",
            b"select a; select a from t where b = 5",
            b"select a from t where b = 5; select a",
        ),
        *(
            b"select current_query() from t where b = 5",
            b"select a from pg_class where b = 5",
            "select ä from t where b = 5".encode(),
        ),
        *(
            b"explain select a from t where b = 5",
            b"update t set a = 5",
            b"delete from t where b = 5",
            b"selected a from t where b = 5",
        ),
        b"select a, b = 5 from t group by rollup (a, b = 5)",
        b"select a, b = 5 from t group by CUBE (a, b = 5)",
        b"select a, b = 5 from t group by grouping sets ((a), (b = 5))",
        *(b"select a from t where b =  5", b"select a from t order by 1", b"select a, 5 from t where b = 5"),
    ],
)
def test_none(text: bytes) -> None:
    assert template(text) is None


@given(
    st.lists(
        st.sampled_from(
            [b"select a ", b"where b", b" = ", b"=", b"5", b"77 ", b"(", b",", b"123456789", b"x1", b"\n", b";"]
        )
    )
)
def test_what_is_executed_are_the_integers_left_out(parts: list[bytes]) -> None:
    text = b"".join(parts)
    values, at, shape = [], 0, express.blank_integers(text)
    for byte in shape:
        if byte:
            at += 1
            continue
        end = at
        while text[end : end + 1].isdigit():
            end += 1
        values.append(text[at:end])
        at = end

    assert fast.execute_with_integers(text) == (
        client.encode_bind(Bind("", "", (), tuple(values), ()))
        + client.encode_describe(Target("P", ""))
        + client.encode_execute(Execute("", 0))
        + client.SYNC_FRAME
    )
