"""The second reading made in the session itself, for one that has temporary relations or uncommitted definitions.

Such relations exist nowhere else, so nothing but the session's own connection can say what a name means there. The
question is the same (`postgres_witness`), asked in a transaction or savepoint that is undone, and only while nothing of
the session's is half sent. Between questions what was found holds as long as nothing ran that could change it.

Permanent relations are taken from the side connection's catalogue as long as both see the same version.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from analysis.catalogue import Catalogue
from analysis.statement import Analysis
from analysis.witness import Witness
from gateway.session.context import SessionContext
from gateway.session.services import UpstreamRejected
from gateway.session.temporary import OwnPlace, PlaceRefused, Row
from gateway.upstreams.postgres_catalogue import (
    QUERIES,
    VERSION_QUERY,
    catalogue_of,
    including_temporary,
    temporary_alone,
)
from gateway.upstreams.postgres_side import Estimate, PostgresSide, Recent
from gateway.upstreams.postgres_witness import (
    CREATION_SCHEMA,
    LOCK_TIMEOUT,
    QUALIFIED_TYPE,
    READ_BACK,
    STATEMENT_TIMEOUT,
    TO_BE_INFERRED,
    UNKNOWN_TYPE,
    NoWitness,
    Question,
    padded,
    rejection,
    witness_of,
    wrapped,
)
from gateway.upstreams.state import TRUST_S

FRESH_S = 0.8  # what others may change is asked for again after so long, as on the side connection
_BOUNDS = (
    f"SELECT pg_catalog.set_config('statement_timeout', '{STATEMENT_TIMEOUT}', true), "
    f"pg_catalog.set_config('lock_timeout', '{LOCK_TIMEOUT}', true)"
)
# A temporary relation must not stand in for the catalogue's own: pg_temp is searched first unless it is named.
_OWN_PATH = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
_PARAMETERS_OF = f"""
SELECT o.oid::pg_catalog.int8, {QUALIFIED_TYPE}
FROM pg_catalog.pg_prepared_statements AS p
  CROSS JOIN LATERAL pg_catalog.unnest(p.parameter_types::pg_catalog.oid[]) WITH ORDINALITY AS o(oid, n)
  LEFT JOIN pg_catalog.pg_type AS t ON t.oid = o.oid
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
WHERE p.name = %s ORDER BY o.n
"""  # noqa: S608, a name of ours
_NAMES_OF = f"""
SELECT {QUALIFIED_TYPE}
FROM pg_catalog.unnest(ARRAY[%s]::pg_catalog.oid[]) WITH ORDINALITY AS o(oid, n)
  LEFT JOIN pg_catalog.pg_type AS t ON t.oid = o.oid
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
ORDER BY o.n
"""  # noqa: S608, a name of ours
_CONTENTS = frozenset("rpvmf")


class PostgresOwnSide:
    """What `PostgresSide` is to everybody, for one session. Without a place to ask, its catalogue is None."""

    def __init__(self, shared: PostgresSide, session: SessionContext, place: OwnPlace) -> None:
        self._shared = shared
        self._session = session
        self._place = place
        self.catalogue: Catalogue | None = None
        self.analyses: Recent[Analysis] = Recent()
        self.estimates: Recent[Estimate] = Recent()
        self._versions: tuple[str, str] | None = None
        self._checked_at = 0.0
        self._changes = -1

    def is_beside(self, shared: PostgresSide) -> bool:
        return self._shared is shared

    @property
    def permanent_version(self) -> str:
        return self._versions[0] if self._versions is not None else ""

    async def is_current(self) -> bool:
        """Whether names can be known now: nothing changed since the last look, or there was another look just now."""
        unchanged = self._changes == self._session.temporary.changes and self.catalogue is not None
        age = time.monotonic() - self._checked_at
        if unchanged and age < FRESH_S:
            return True
        if not await self._place.ready():
            return unchanged and (age < TRUST_S or await self._others_changed_nothing())
        await self.check(time.monotonic())
        return self.catalogue is not None

    async def _others_changed_nothing(self) -> bool:
        """Whether the permanent relations are those this side knows: asked beside the session, which is busy."""
        began = time.monotonic()
        await self._shared.check(began)
        there = self._shared.catalogue
        if there is None or self._versions is None or there.version != self._versions[0]:
            return False
        self._checked_at = began
        return True

    async def check(self, _since: float) -> None:
        """Look at what there is. Leaves no catalogue when the database could not be asked."""
        began, changes = time.monotonic(), self._session.temporary.changes
        try:
            answers = await self._rows([VERSION_QUERY, temporary_alone(VERSION_QUERY)])
            permanent, own = (str(rows[0][0]) for rows in answers)
            if (permanent, own) != self._versions or changes != self._changes:
                await self._load(permanent, own)
        except (NoWitness, PlaceRefused):
            self._forget()
            return
        self._checked_at, self._changes = began, changes

    async def read(self, question: Question, *, meanwhile: Callable[[], None] | None = None) -> Witness:
        """Return the session's own reading of `question`. Raises UpstreamRejected or NoWitness.

        `meanwhile` is called before it is asked.
        """
        if self.catalogue is None or not await self._place.ready():
            raise NoWitness("the session could not be asked")
        if meanwhile is not None:
            meanwhile()
        types = await self._types(question)
        name = f"probe_{secrets.token_hex(8)}"
        head, command = wrapped(name, question.text, types)
        read_back = READ_BACK.replace("$1", f"'{name}'")
        texts = [_BOUNDS, CREATION_SCHEMA, command, _OWN_PATH, read_back]
        answers = await self._asked(texts, question, head_length=len(head))
        rows = answers[4]
        if len(rows) != 1 or rows[0][0] is None:
            raise NoWitness("the database kept no reading of the statement")
        tree, dependencies = (value or b"" for value in rows[0])
        found = witness_of(tree.decode(), dependencies.decode(), self.catalogue, tuple(oid for oid, _ in types))
        return replace(found, creation_schema=(answers[1][0][0] or b"").decode())

    async def plan(self, question: Question) -> object:
        """Return the planner's plan, None where it gives none: always for statements with parameters."""
        if question.parameter_count or not await self._place.ready():
            return None
        try:
            answers = await self._asked([_BOUNDS, f"EXPLAIN (FORMAT JSON)\n{question.text}"], question, head_length=0)
            return json.loads(answers[1][0][0] or b"")
        except (NoWitness, UpstreamRejected, ValueError):
            return None

    def forget(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.catalogue, self._versions, self._changes = None, None, -1
        self.analyses.clear()
        self.estimates.clear()

    # --- what there is ---

    async def _load(self, permanent: str, own: str) -> None:
        self._forget()
        shared = self._shared.catalogue
        if shared is None or shared.version != permanent:
            await self._shared.check(time.monotonic())
            shared = self._shared.catalogue
        if shared is None:
            raise NoWitness("the database could not be asked")
        alone = shared.version == permanent
        look = temporary_alone if alone else including_temporary
        found = catalogue_of(
            await self._rows([look(query) for query in QUERIES]),
            version=f"{permanent}:{own}",
            server_version=shared.server_version,
        )
        if alone:
            found = _joined(shared, found)
        # Code this transaction changed is what nobody looked at; and temporary relations are found before others.
        classified = shared.elsewhere.classified if alone else {}
        self.catalogue = self._with_contents(replace(found, classified=classified))
        self._versions = (permanent, own)

    def _with_contents(self, found: Catalogue) -> Catalogue:
        temporary = {oid: each for oid, each in found.relations.items() if each.schema.startswith("pg_temp_")}
        unfollowed = self._session.temporary.seen(each for each in temporary.values() if each.kind in _CONTENTS)
        return replace(
            found,
            temporary=frozenset(temporary),
            unfollowed=unfollowed,
            inherited=dict(self._session.temporary.inherited),
        )

    async def _rows(self, queries: list[str]) -> list[list[list[Any]]]:
        """The answers as values: each row as JSON, whose objects keep the order of the columns."""
        wrapped_up = [
            "SELECT pg_catalog.json_agg(pg_catalog.row_to_json(answer.*)) FROM (" + query + ") AS answer"  # noqa: S608, queries of ours
            for query in queries
        ]
        answers = await self._place.ask_undone([_BOUNDS, _OWN_PATH, *wrapped_up])
        if answers is None:
            raise NoWitness("the session could not be asked")
        found = [json.loads(answer[0][0] or b"[]") for answer in answers[2:]]
        return [[list(row.values()) for row in rows] for rows in found]

    # --- questions ---

    async def _types(self, question: Question) -> tuple[tuple[int, str], ...]:
        """(OID, name) of every parameter, as the session infers them by preparing the query."""
        if not (question.parameter_count or question.declared_types):
            return ()
        name = f"probe_{secrets.token_hex(8)}"
        declared = question.declared_types or ", ".join(await self._declared(question))
        head = f"PREPARE {name} ({declared}) AS\n"
        look = _PARAMETERS_OF.replace("%s", f"'{name}'")
        texts = [_BOUNDS, head + question.text, _OWN_PATH, look, f"DEALLOCATE {name}"]
        answers = await self._asked(texts, question, head_length=len(head))
        found = tuple((int(oid or b"0"), (text or b"").decode()) for oid, text in answers[3])
        if not all(text for _, text in found):
            raise NoWitness("a parameter of a type the database does not know")
        return found

    async def _declared(self, question: Question) -> list[str]:
        """The parameters' types by name, `TO_BE_INFERRED` where the server is to."""
        given = padded(question)
        answers = await self._place.ask_undone([_OWN_PATH, _NAMES_OF.replace("%s", ", ".join(map(str, given)))])
        if answers is None:
            raise NoWitness("the session could not be asked")
        names = [(name or b"").decode() for (name,) in answers[1]]
        told = [TO_BE_INFERRED if oid in (0, UNKNOWN_TYPE) else name for oid, name in zip(given, names, strict=True)]
        if not all(told):
            raise NoWitness("a parameter of a type the database does not know")
        return told

    async def _asked(self, texts: list[str], question: Question, *, head_length: int) -> list[list[Row]]:
        try:
            answers = await self._place.ask_undone(texts)
        except PlaceRefused as refused:
            place = refused.fields.get("P", "0")
            position = int(place) if place.isdigit() else 0
            raise rejection(refused.fields, position - head_length, question=question) from None
        if answers is None:
            raise NoWitness("the session could not be asked")
        return answers


def _joined(shared: Catalogue, own: Catalogue) -> Catalogue:
    """The permanent relations everybody sees, and the session's own."""
    return replace(
        own,
        relations={**shared.relations, **own.relations},
        functions={**shared.functions, **own.functions},
        operators=shared.operators,
        type_functions={**shared.type_functions, **own.type_functions},
        domain_functions={**shared.domain_functions, **own.domain_functions},
        cast_functions={**shared.cast_functions, **own.cast_functions},
        json_types=shared.json_types | own.json_types,
    )
