"""Drivers and ORMs read the catalogue in their own words; security that refuses those is no use."""

from __future__ import annotations

import re
from typing import Any

import asyncpg.introspection
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

from tests.analysis.conftest import Analyse


def _statements_of_reflection(dsn: str) -> list[str]:
    """What SQLAlchemy sends to reflect the whole schema, with its parameters as $n."""
    parts = conninfo_to_dict(dsn)
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=str(parts["user"]),
        password=str(parts["password"]),
        host=str(parts["host"]),
        port=int(str(parts["port"])),
        database=str(parts["dbname"]),
    )
    engine = sqlalchemy.create_engine(url)
    sent: list[str] = []

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def remember(_c: Any, _cursor: Any, text: str, parameters: Any, _context: Any, _many: bool) -> None:
        for index, name in enumerate(parameters or ()):
            text = re.sub(rf"%\({re.escape(str(name))}\)s", f"${index + 1}", text)
        sent.append(text.replace("%%", "%"))

    sqlalchemy.MetaData().reflect(engine, views=True)
    engine.dispose()
    return sent


async def test_sqlalchemy_reflection_is_complete(analyse: Analyse, scratch_dsn: str) -> None:
    statements = _statements_of_reflection(scratch_dsn)

    problems = {text: analysis.problems for text in statements if not (analysis := await analyse(text)).complete}

    assert len(statements) > 5
    assert problems == {}


async def test_asyncpg_introspection_is_complete(analyse: Analyse) -> None:
    for text in (asyncpg.introspection.INTRO_LOOKUP_TYPES, asyncpg.introspection.TYPE_BY_NAME):
        analysis = await analyse(text)
        assert analysis.complete, analysis.problems


async def test_psql_describe_is_complete(analyse: Analyse) -> None:
    analysis = await analyse(
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c "
        "LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relname OPERATOR(pg_catalog.~) '^(patients)$' COLLATE pg_catalog.default "
        "AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3"
    )

    assert analysis.complete, analysis.problems
