"""Read a PostgreSQL database's schema into a `Catalogue`, and its version cheaply.

The version is a digest over the transaction ids that last wrote the catalogue's rows: any DDL changes it. Temporary
objects are left out, they belong to other sessions and come and go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.postgres import types as _BUILTIN_TYPES

from analysis.catalogue import FIRST_USER_OID, Catalogue, Column, Function, Reference, Relation
from gateway.session.services import TableDescription

_PERMANENT = "(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_')"

_OWN = "(SELECT pg_catalog.pg_my_temp_schema())"
_VISIBLE = (
    "(SELECT oid FROM pg_catalog.pg_namespace "
    "WHERE nspname !~ '^pg_(toast_)?temp_' OR oid = pg_catalog.pg_my_temp_schema())"
)

VERSION_QUERY = f"""
SELECT pg_catalog.md5(pg_catalog.string_agg(part, ',')) FROM (
  SELECT pg_catalog.concat_ws(':', 'class', count(*), max(xmin::text::bigint), sum(xmin::text::bigint)) AS part
    FROM pg_catalog.pg_class WHERE relnamespace IN {_PERMANENT}
  UNION ALL SELECT pg_catalog.concat_ws(':', 'attribute', count(*), max(a.xmin::text::bigint),
      sum(a.xmin::text::bigint))
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace IN {_PERMANENT}
  UNION ALL SELECT pg_catalog.concat_ws(':', 'proc', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_proc WHERE pronamespace IN {_PERMANENT}
  UNION ALL SELECT pg_catalog.concat_ws(':', 'type', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_type WHERE typnamespace IN {_PERMANENT}
  UNION ALL SELECT pg_catalog.concat_ws(':', 'rewrite', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_rewrite
  UNION ALL SELECT pg_catalog.concat_ws(':', 'trigger', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_trigger
  UNION ALL SELECT pg_catalog.concat_ws(':', 'policy', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_policy
  UNION ALL SELECT pg_catalog.concat_ws(':', 'operator', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_operator
  UNION ALL SELECT pg_catalog.concat_ws(':', 'inherits', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_inherits
  UNION ALL SELECT pg_catalog.concat_ws(':', 'constraint', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_constraint
  UNION ALL SELECT pg_catalog.concat_ws(':', 'default', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_attrdef
  UNION ALL SELECT pg_catalog.concat_ws(':', 'cast', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_cast
  UNION ALL SELECT pg_catalog.concat_ws(':', 'namespace', count(*), max(xmin::text::bigint), sum(xmin::text::bigint))
    FROM pg_catalog.pg_namespace WHERE oid IN {_PERMANENT}
) parts
"""  # noqa: S608, a constant of ours

_RELATIONS = f"""
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text,
  (SELECT r.ev_action::text FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = c.oid AND r.rulename = '_RETURN' AND c.oid >= {FIRST_USER_OID})
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S', 't') AND c.relnamespace IN {_PERMANENT}
"""  # noqa: S608
_COLUMNS = f"""
SELECT a.attrelid::bigint, a.attnum, a.attname, a.atttypid::bigint, a.attnotnull, a.attgenerated <> '',
  CASE WHEN a.attgenerated <> '' THEN ARRAY(
    SELECT d.refobjsubid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid
      AND d.refobjsubid > 0 AND d.refobjsubid <> a.attnum
      AND (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum
        OR d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = (
          SELECT def.oid FROM pg_catalog.pg_attrdef def WHERE def.adrelid = a.attrelid AND def.adnum = a.attnum)))
  END
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S', 't')
  AND c.relnamespace IN {_PERMANENT}
"""  # noqa: S608
_KEYS = """
SELECT indrelid::bigint, indkey::int2[]::int[], indnkeyatts FROM pg_catalog.pg_index
WHERE indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL AND indimmediate
"""
# What a write compares with values that are stored: partial, deferred and computed indexes included.
_COMPARED = """
SELECT 'unique', i.indrelid::bigint, k.number::int
FROM pg_catalog.pg_index i, LATERAL pg_catalog.unnest(i.indkey::int2[]) AS k(number)
WHERE (i.indisunique OR i.indisexclusion) AND k.number > 0
UNION SELECT 'unique', i.indrelid::bigint, d.refobjsubid
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid
WHERE (i.indisunique OR i.indisexclusion) AND d.refobjsubid > 0
  AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
UNION SELECT 'unique', c.conrelid::bigint, d.refobjsubid
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_depend d ON d.objid = c.oid AND d.refobjid = c.conrelid
WHERE c.contype IN ('p', 'u', 'x') AND d.refobjsubid > 0
  AND d.classid = 'pg_catalog.pg_constraint'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
UNION SELECT 'reference', c.conrelid::bigint, k.number
FROM pg_catalog.pg_constraint c, LATERAL pg_catalog.unnest(c.conkey) AS k(number) WHERE c.contype = 'f'
UNION SELECT 'partition', d.refobjid::bigint, d.refobjsubid
FROM pg_catalog.pg_partitioned_table t JOIN pg_catalog.pg_depend d ON d.objid = t.partrelid AND d.refobjid = d.objid
WHERE d.refobjsubid > 0 AND d.objsubid = 0
  AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
UNION SELECT 'partition', t.partrelid::bigint, k.number
FROM pg_catalog.pg_partitioned_table t, LATERAL pg_catalog.unnest(t.partattrs::int2[]) AS k(number) WHERE k.number > 0
UNION SELECT 'check', c.conrelid::bigint, k.number
FROM pg_catalog.pg_constraint c, LATERAL pg_catalog.unnest(c.conkey) AS k(number)
WHERE c.contype = 'c' AND c.conrelid <> 0
UNION SELECT 'check', i.indrelid::bigint, k.number::int
FROM pg_catalog.pg_index i, LATERAL pg_catalog.unnest(i.indkey::int2[]) AS k(number)
WHERE k.number > 0 AND i.indrelid >= 16384
UNION SELECT 'check', i.indrelid::bigint, d.refobjsubid
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid
WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND d.refobjsubid > 0
  AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
UNION SELECT 'check', d.refobjid::bigint, d.refobjsubid
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_policy p ON p.oid = d.objid AND p.polrelid = d.refobjid
WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.refobjsubid > 0
UNION SELECT 'check', a.attrelid::bigint, a.attnum
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind = 'v' AND c.reloptions::text ~ 'check_option'
"""
# Columns that are held against each other: writing one of them asks about the others, where these stay as they are.
_TOGETHER = """
SELECT c.conrelid::bigint, c.conkey::int[] FROM pg_catalog.pg_constraint c
WHERE c.contype IN ('c', 'f') AND c.conrelid <> 0 AND pg_catalog.cardinality(c.conkey) > 1
UNION ALL SELECT t.partrelid::bigint, t.partattrs::int2[]::int[] FROM pg_catalog.pg_partitioned_table t
WHERE t.partnatts > 1
UNION ALL SELECT p.polrelid::bigint, pg_catalog.array_agg(DISTINCT d.refobjsubid)
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.refobjid = p.polrelid
WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.refobjsubid > 0
GROUP BY p.oid, p.polrelid
UNION ALL SELECT i.indrelid::bigint, pg_catalog.array_agg(DISTINCT part.number)
FROM pg_catalog.pg_index i, LATERAL (
  SELECT k.number::int FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
  WHERE k.number > 0 AND k.place <= i.indnkeyatts
  UNION SELECT d.refobjsubid FROM pg_catalog.pg_depend d
  WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
    AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.refobjsubid > 0
) AS part
WHERE i.indisunique OR i.indisexclusion OR i.indexprs IS NOT NULL
GROUP BY i.indexrelid, i.indrelid
"""
_REFERENCES = """
SELECT c.conrelid::bigint, c.conkey[k.at]::int, c.confrelid::bigint, c.confkey[k.at]::int,
  c.confdeltype::text, c.confupdtype::text
FROM pg_catalog.pg_constraint c, LATERAL pg_catalog.generate_subscripts(c.conkey, 1) AS k(at)
WHERE c.contype = 'f'
"""
_INHERITS = "SELECT inhrelid::bigint, inhparent::bigint FROM pg_catalog.pg_inherits"
_TRIGGERS = """
SELECT t.tgrelid::bigint, n.nspname || '.' || p.proname FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
"""
_RULES = "SELECT ev_class::bigint, rulename::text FROM pg_catalog.pg_rewrite WHERE rulename <> '_RETURN'"
_FUNCTIONS = f"""
SELECT p.oid::bigint, n.nspname, p.proname, p.prokind::text, p.provolatile::text,
  CASE WHEN p.oid >= {FIRST_USER_OID} AND p.proargdefaults IS NULL THEN p.prosqlbody::text END
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
"""  # noqa: S608
_OPERATORS = "SELECT oid::bigint, oprname, oprcode::oid::bigint FROM pg_catalog.pg_operator"
_JSON_TYPES = "'pg_catalog.json'::pg_catalog.regtype, 'pg_catalog.json[]'::pg_catalog.regtype"
# Every OID is a bigint, in each arm of a union: as JSON (see `postgres_own`) an oid would be a text.
# User functions reached through what hangs on a relation or a type, found by their recorded dependencies. to_json() of
# a user's type, and what joins one to a text, call casts without naming them (but for those in C: nobody could look).
# A row, an array, a range or a domain runs what the types do that it is made of ('part').
_HIDDEN = f"""
SELECT 'read', pol.polrelid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_policy pol ON pol.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'write', def.adrelid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef def ON def.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'write', con.conrelid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint con ON con.oid = d.objid AND con.conrelid <> 0
WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'write', coalesce(i.indrelid, d.objid)::bigint, d.refobjid::bigint -- of indexes and partition keys
FROM pg_catalog.pg_depend d LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = d.objid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'type', con.contypid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint con ON con.oid = d.objid AND con.contypid <> 0
WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'domain', con.contypid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint con ON con.oid = d.objid AND con.contypid <> 0
WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'domain', t.oid::bigint, d.refobjid::bigint
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_type t ON t.oid = d.objid AND t.typtype = 'd'
WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.refclassid = 'pg_catalog.pg_proc'::regclass
UNION ALL SELECT 'type', t.oid::bigint, f::bigint FROM pg_catalog.pg_type t,
  LATERAL (VALUES (t.typinput::oid), (t.typoutput::oid), (t.typreceive::oid), (t.typsend::oid)) AS io(f)
WHERE f >= {FIRST_USER_OID}
UNION ALL SELECT 'type', r.rngtypid::bigint, r.rngcanonical::oid::bigint FROM pg_catalog.pg_range r
WHERE r.rngcanonical::oid >= {FIRST_USER_OID}
UNION ALL SELECT 'type', r.rngtypid::bigint, p.amproc::oid::bigint FROM pg_catalog.pg_range r
JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc
JOIN pg_catalog.pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype
WHERE p.amproc::oid >= {FIRST_USER_OID}
UNION ALL SELECT 'cast', c.castsource::bigint, c.castfunc::bigint FROM pg_catalog.pg_cast c
JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE c.castfunc >= {FIRST_USER_OID} AND l.lanname NOT IN ('c', 'internal')
  AND c.casttarget IN ('pg_catalog.text'::regtype, 'pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype)
UNION ALL SELECT 'part', t.oid::bigint, part::bigint FROM pg_catalog.pg_type t,
  LATERAL (VALUES (t.typelem), (t.typbasetype)) AS parts(part) WHERE part <> 0 AND t.oid >= {FIRST_USER_OID}
UNION ALL SELECT 'part', c.reltype::bigint, a.atttypid::bigint
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.reltype <> 0 AND a.attnum > 0 AND a.atttypid >= {FIRST_USER_OID}
UNION ALL SELECT 'json', c.reltype::bigint, a.atttypid::bigint
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.reltype <> 0 AND a.attnum > 0 AND a.atttypid IN ({_JSON_TYPES})
UNION ALL SELECT 'json', t.oid::bigint, t.typbasetype::bigint FROM pg_catalog.pg_type t
WHERE t.typbasetype IN ({_JSON_TYPES})
UNION ALL SELECT 'part', r.rngtypid::bigint, r.rngsubtype::bigint FROM pg_catalog.pg_range r
WHERE r.rngtypid >= {FIRST_USER_OID}
UNION ALL SELECT 'part', r.rngmultitypid::bigint, r.rngtypid::bigint FROM pg_catalog.pg_range r
WHERE r.rngtypid >= {FIRST_USER_OID}
"""  # noqa: S608


QUERIES = (
    _RELATIONS, _COLUMNS, _KEYS, _INHERITS, _TRIGGERS, _RULES, _FUNCTIONS, _OPERATORS, _HIDDEN, _COMPARED, _TOGETHER,
    _REFERENCES,
)  # fmt: skip


async def read_version(connection: AsyncConnection[Any]) -> str:
    row = await (await connection.execute(VERSION_QUERY)).fetchone()
    return str(row[0]) if row else ""


async def read_catalogue(connection: AsyncConnection[Any], version: str) -> Catalogue:
    """Read everything in one pipeline. Call inside the transaction that read `version`."""
    async with connection.pipeline():
        cursors = [await connection.execute(query) for query in QUERIES]
        results = [await cursor.fetchall() for cursor in cursors]
    return catalogue_of(results, version=version, server_version=connection.info.server_version)


def catalogue_of(results: Sequence[list[Any]], *, version: str, server_version: int) -> Catalogue:
    """Make a catalogue of the answers to QUERIES, in their order."""
    relations, columns, keys, inherits, triggers, rules, functions, operators, hidden, compared, *constrained = results
    parts = _grouped(hidden, "part")
    return Catalogue(
        version=version,
        relations=_relations(relations, columns, keys, inherits, triggers, rules, hidden, compared, *constrained),
        functions={oid: Function(oid, *rest) for oid, *rest in functions},
        operators={oid: (name, code) for oid, name, code in operators},
        type_functions=_with_parts(_grouped(hidden, "type"), parts),
        domain_functions=_with_parts(_grouped(hidden, "domain"), parts),
        cast_functions=_with_parts(_grouped(hidden, "cast"), parts),
        json_types=frozenset(_with_parts(_grouped(hidden, "json"), parts)),
        server_version=server_version,
    )


def including_temporary(query: str) -> str:
    """The query over what the session itself sees: its own temporary relations as well."""
    return query.replace(_PERMANENT, _VISIBLE)


def temporary_alone(query: str) -> str:
    """The query over nothing but the session's temporary relations, and what hangs on any relation."""
    if query is _FUNCTIONS:
        return f"{query} WHERE p.pronamespace = pg_catalog.pg_my_temp_schema()"
    return f"{query} WHERE false" if query is _OPERATORS else query.replace(_PERMANENT, _OWN)


_KINDS = {"r": "table", "p": "table", "f": "table", "v": "view", "m": "view"}


def described_tables(catalogue: Catalogue) -> tuple[TableDescription, ...]:
    """What of the catalogue a client may ask rows of: no sequences, no TOAST, nothing of PostgreSQL itself."""
    users = [relation for relation in catalogue.relations.values() if not relation.is_system]
    shown = [relation for relation in users if relation.kind in _KINDS]
    return tuple(
        TableDescription(
            schema=relation.schema,
            name=relation.name,
            kind=_KINDS[relation.kind],
            columns=tuple((column.name, _type_name(column.type_oid)) for _, column in sorted(relation.columns.items())),
        )
        for relation in sorted(shown, key=lambda relation: (relation.schema, relation.name))
    )


def _type_name(oid: int) -> str:
    info = _BUILTIN_TYPES.get(oid)
    return info.name if info is not None else "other"


def _relations(  # noqa: PLR0917, one argument a query
    relations: list[Any],
    columns: list[Any],
    keys: list[Any],
    inherits: list[Any],
    triggers: list[Any],
    rules: list[Any],
    hidden: list[Any],
    compared: list[Any],
    together: list[Any],
    references: list[Any],
) -> dict[int, Relation]:
    columns_of: dict[int, dict[int, Column]] = defaultdict(dict)
    for oid, number, name, type_oid, not_null, generated, made_of in columns:
        columns_of[oid][number] = Column(name, type_oid, not_null, generated, tuple(sorted(made_of or ())))
    keys_of: dict[int, list[frozenset[int]]] = defaultdict(list)
    for oid, numbers, count in keys:
        keys_of[oid].append(frozenset(numbers[:count]))
    parents: dict[int, list[int]] = defaultdict(list)
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in inherits:
        parents[child].append(parent)
        children[parent].append(child)
    together_of: dict[int, list[frozenset[int]]] = defaultdict(list)
    for oid, numbers in together:
        together_of[oid].append(frozenset(numbers))
    references_of: dict[int, list[Reference]] = defaultdict(list)
    for oid, *reference in references:
        references_of[oid].append(Reference(*reference))
    triggers_of, rules_of = _named(triggers), _named(rules)
    write, read = _grouped(hidden, "write"), _grouped(hidden, "read")
    unique, referencing = _grouped(compared, "unique"), _grouped(compared, "reference")
    checked, dividing = _grouped(compared, "check"), _grouped(compared, "partition")
    return {
        oid: Relation(
            oid=oid,
            schema=schema,
            name=name,
            kind=kind,
            columns=columns_of[oid],
            unique_keys=tuple(keys_of[oid]),
            unique_columns=unique.get(oid, frozenset()),
            referencing_columns=referencing.get(oid, frozenset()) | dividing.get(oid, frozenset()),
            dividing_columns=dividing.get(oid, frozenset()),
            checked_columns=checked.get(oid, frozenset()).union(*(c.made_of for c in columns_of[oid].values())),
            checked_together=_together(together_of[oid], columns_of[oid]),
            references=tuple(references_of[oid]),
            parents=tuple(parents[oid]),
            children=tuple(children[oid]),
            definition=definition,
            triggers=triggers_of.get(oid, frozenset()),
            rules=rules_of.get(oid, frozenset()),
            write_functions=write.get(oid, frozenset()),
            read_functions=read.get(oid, frozenset()),
        )
        for oid, schema, name, kind, definition in relations
    }


def _together(groups: list[frozenset[int]], columns: dict[int, Column]) -> tuple[frozenset[int], ...]:
    """Generated columns stand for what they are computed from, and are such a group themselves."""
    made = [frozenset(column.made_of) for column in columns.values()]
    found = [
        frozenset().union(*(columns[n].made_of or (n,) for n in group if n in columns)) for group in (*groups, *made)
    ]
    return tuple({group for group in found if len(group) > 1})


def _with_parts(functions: dict[int, frozenset[int]], parts: dict[int, frozenset[int]]) -> dict[int, frozenset[int]]:
    """What types run, by themselves and through the types they are made of."""
    if not functions:
        return functions
    wholes: dict[int, set[int]] = defaultdict(set)
    for whole, members in parts.items():
        for member in members:
            wholes[member].add(whole)
    found: dict[int, set[int]] = {oid: set(run) for oid, run in functions.items()}
    pending = list(found)
    while pending:
        member = pending.pop()
        for whole in wholes.get(member, ()):
            known = found.setdefault(whole, set())
            if not found[member] <= known:
                known |= found[member]
                pending.append(whole)
    return {oid: frozenset(run) for oid, run in found.items()}


def _named(rows: list[Any]) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for oid, name in rows:
        found[oid].add(name)
    return {oid: frozenset(names) for oid, names in found.items()}


def _grouped(rows: list[Any], group: str) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for kind, owner, member in rows:
        if kind == group:
            found[owner].add(member)
    return {oid: frozenset(members) for oid, members in found.items()}
