"""A decision's question as compact JSON, and back: what `decide` reads of an AccessRequest and nothing else. Pure.

No statement, no literal, no value: names of tables, columns and functions, flags, counts, and who asked where. The
digest of the canonical form addresses it; a plain hash suffices, because there is nothing secret to guess.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

from analysis.statement import Analysis, ColumnRef, Facts, Operation, RiskAddend, Statement, TableRef
from analysis.touch import ProtectedTouch
from approvals.domain.request import AccessRequest, Principal, Resource

Document = dict[str, Any]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
_FACTS = tuple(field.name for field in fields(Facts))  # flags and numbers


def input_document(request: AccessRequest) -> Document:
    """Everything a policy or an access rule can ask about, except the moment."""
    principal, resource = request.principal, request.resource
    return {
        "who": {
            "subject": principal.subject,
            "issuer": principal.issuer,
            "groups": sorted(principal.groups),
            "kind": principal.kind,
            "actor": principal.actor,
            "owner": principal.owner,
            **({"either_groups": sorted(principal.either_groups)} if principal.either_groups else {}),
        },
        "where": [resource.connection, resource.kind, resource.phi],
        "what": _analysis(request.analysis),
        "touch": _touch(request.touch),
    }


def input_digest(document: Document) -> str:
    """32 hex digits that name the document."""
    return hashlib.sha256(_CANONICAL(document).encode()).hexdigest()[:32]


def request_of(document: Document, *, at: float) -> AccessRequest:
    """The question again, as it would be asked at Unix time `at`. Its statement has no text."""
    who, touch = document["who"], document["touch"]
    connection, kind, phi = document["where"]
    return AccessRequest(
        principal=Principal(
            **{
                **who,
                "groups": frozenset(who["groups"]),
                "either_groups": frozenset(who.get("either_groups", ())),
            }
        ),
        resource=Resource(connection=connection, kind=kind, phi=phi),
        analysis=_analysis_of(document["what"]),
        touch=ProtectedTouch(
            columns_read=_columns(touch["read"]),
            columns_written=_columns(touch["written"]),
            columns_returned=_columns(touch["returned"]),
            classes=frozenset(touch["classes"]),
            inference_violations=tuple(touch["inference"]),
        ),
        at=at,
    )


def _analysis(analysis: Analysis) -> Document:
    return {
        "kind": analysis.kind,
        "complete": analysis.complete,
        "problems": list(analysis.problems),
        "operations": sorted(map(str, analysis.operations)),
        "tables_read": _spelled_tables(analysis.tables_read),
        "tables_written": _spelled_tables(analysis.tables_written),
        "reads": _spelled_columns(analysis.reads),
        "writes": _spelled_columns(analysis.writes),
        "functions": sorted(analysis.functions),
        "opaque": sorted(analysis.opaque_functions),
        "facts": {name: getattr(analysis.facts, name) for name in _FACTS},
        "risk": [[addend.reason, addend.points] for addend in analysis.risk],
    }


def _analysis_of(known: Document) -> Analysis:
    return Analysis(
        statement=Statement(""),
        kind=known["kind"],
        fingerprint="",
        complete=known["complete"],
        problems=tuple(known["problems"]),
        operations=frozenset(Operation(name) for name in known["operations"]),
        tables_read=frozenset(TableRef(*parts) for parts in known["tables_read"]),
        tables_written=frozenset(TableRef(*parts) for parts in known["tables_written"]),
        reads=_columns(known["reads"]),
        writes=_columns(known["writes"]),
        functions=frozenset(known["functions"]),
        opaque_functions=frozenset(known["opaque"]),
        facts=Facts(**known["facts"]),
        risk=tuple(RiskAddend(reason, points) for reason, points in known["risk"]),
    )


def _touch(touch: ProtectedTouch) -> Document:
    return {
        "read": _spelled_columns(touch.columns_read),
        "written": _spelled_columns(touch.columns_written),
        "returned": _spelled_columns(touch.columns_returned),
        "classes": sorted(touch.classes),
        "inference": list(touch.inference_violations),
    }


# Names may hold dots of their own, so they are kept in their parts.
def _spelled_tables(tables: frozenset[TableRef]) -> list[list[str]]:
    return [[table.schema, table.table] for table in sorted(tables)]


def _spelled_columns(columns: frozenset[ColumnRef]) -> list[list[str]]:
    return [[column.schema, column.table, column.column] for column in sorted(columns)]


def _columns(parts: list[list[str]]) -> frozenset[ColumnRef]:
    return frozenset(ColumnRef(*names) for names in parts)
