"""Objects of a schema in front of `pg_catalog` mean something to the session, and nothing to our own questions."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from gateway.session.context import SessionContext
from tests.analysis.conftest import Analyse

PLANTED = """
CREATE SCHEMA planted;
CREATE FUNCTION planted.always(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR planted.= (LEFTARG = text, RIGHTARG = text, FUNCTION = planted.always);
"""


@pytest.fixture
def planted(scratch_dsn: str) -> Iterator[None]:
    with psycopg.connect(scratch_dsn, autocommit=True) as connection:
        connection.execute(PLANTED)
        yield
        connection.execute("DROP SCHEMA planted CASCADE")


@pytest.mark.usefixtures("planted")
async def test_types_a_prepare_names_are_those_of_its_own_statement(
    analyse: Analyse, session_context: SessionContext
) -> None:
    """The side connection knows other statements as well: an operator that is always true names the first of them."""
    session_context.search_path = "planted, pg_catalog"

    found = await analyse("PREPARE p (int8, uuid) AS SELECT $1, $2")

    assert found.complete
    assert found.inner is not None
    assert found.inner.statement.parameter_types == (20, 2950)
