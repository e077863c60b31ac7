"""A person's words about a PostgreSQL database's functions, held against the code those functions have now.

The digest (`function_definitions.sql`) covers the function itself (body, configuration, defaults, security) and every
function, view and operator it may reach: by recorded dependency where the database has read the body, by name where
the body is text. Names that only occur in a text, in a comment say, count as well. What a text builds at run time,
casts, types and triggers are not reached.

A text's names mean what the session's search_path makes of them, temporary relations first. Its meaning is *fixed* only
where the function sets a search_path of its own that ends in pg_temp, or is C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from analysis.catalogue import Catalogue
from analysis.classified import Word

CODE_QUERY = Path(__file__).with_name("function_definitions.sql").read_text(encoding="utf-8")
_CHOSEN = CODE_QUERY.replace("/* which */ true", "c.label = ANY(%s::pg_catalog.text[])")
_USUAL_PATH = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'"


async def with_words(connection: AsyncConnection[Any], found: Catalogue, words: Sequence[Word]) -> Catalogue:
    """`found` with the words that are about the code as it is; call in the transaction that read it.

    Definitions are never older than `found`: code replaced in between has another digest, or another version.
    """
    if not words:
        return found
    rows = await (await connection.execute(_CHOSEN, ([word.function for word in words],))).fetchall()
    (path,) = await (await connection.execute(_USUAL_PATH)).fetchone() or ("",)
    said = {word.function: word for word in words}
    meant = {oid: said[label] for oid, label, _, digest, *_ in rows if said[label].digest == digest}
    return replace(
        found,
        classified={oid: word.columns for oid, word in meant.items()},
        by_path=frozenset(oid for oid, _, _, _, fixed, _ in rows if not fixed),
        outdated=frozenset(oid for oid, *_ in rows if oid not in meant),
        usual_path=path,
    )
