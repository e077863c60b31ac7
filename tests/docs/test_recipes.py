"""The clients of docs/agents.md, exactly as the page spells them, against the running product."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.stack import PROJECT, Stack

PAGE = (PROJECT / "docs" / "agents.md").read_text(encoding="utf-8")
QUERY = "SELECT state, ssn FROM patients WHERE id = 5"


def recipe(client: str) -> str:
    [row] = re.findall(rf"^\| {client} \| `(.+?)`", PAGE, re.M)
    return str(row)


def spelled(client: str, stack: Stack) -> str:
    return recipe(client).replace("6432", str(stack.demo["postgres"]["port"]))


def masked(row: Any) -> bool:
    return len(str(row[0])) == 2 and "-" not in str(row[1])


def engine_of(stack: Stack) -> Any:
    from sqlalchemy import URL, create_engine

    return eval(
        spelled("SQLAlchemy", stack), {"create_engine": create_engine, "URL": URL, "token": stack.agent_token()}
    )


def test_psycopg(stack: Stack):
    import psycopg

    with eval(spelled("psycopg", stack), {"psycopg": psycopg, "token": stack.agent_token()}) as connection:
        assert masked(connection.execute(QUERY).fetchone())


def test_asyncpg(stack: Stack):
    import asyncpg

    async def ask() -> Any:
        call = spelled("asyncpg", stack).removeprefix("await ")
        connection = await eval(call, {"asyncpg": asyncpg, "token": stack.agent_token()})
        try:
            return await connection.fetchrow(QUERY)
        finally:
            await connection.close()

    assert masked(asyncio.run(ask()))


def test_sqlalchemy_and_pandas(stack: Stack):
    import pandas
    from sqlalchemy import text

    engine = engine_of(stack)
    with engine.connect() as connection:
        assert masked(connection.execute(text(QUERY)).fetchone())
    frame = eval(recipe("pandas"), {"pandas": pandas, "engine": engine})
    engine.dispose()

    assert int(frame["count"].sum()) > 10_000


@pytest.mark.parametrize("client", ["psql", "JDBC", "an MCP client"])
def test_other_recipes_name_the_same_parts(client: str):
    """They have suites of their own; the page must not drift from them."""
    assert f"| {client}" in PAGE
