"""The session's own reading of the catalogue is the side connection's, asked in other words."""

from __future__ import annotations

import json

import psycopg

from gateway.upstreams.postgres_catalogue import QUERIES, catalogue_of, including_temporary

_SCHEMA = """
CREATE TABLE parent (id int PRIMARY KEY, word text DEFAULT shout('x') CHECK (shout(word) <> ''), twice int
  GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE child (parent_id int REFERENCES parent, code text UNIQUE DEFERRABLE);
CREATE UNIQUE INDEX ON child (lower(code));
CREATE DOMAIN loud AS text CHECK (shout(VALUE) <> '');
ALTER TABLE child ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON child USING (shout(code) <> '');
"""
_SHOUT = "CREATE FUNCTION shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper($1); END'"


def test_both_ways_of_reading_give_one_catalogue(postgres_dsn: str) -> None:
    """As JSON an OID that is no bigint would be a text, and what hangs on it would be lost."""
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE SCHEMA own_reading; SET LOCAL search_path TO own_reading")
        connection.execute(_SHOUT)
        connection.execute(_SCHEMA)
        plain = [connection.execute(query).fetchall() for query in QUERIES]
        told = [
            [list(row.values()) for row in json.loads(_as_json(connection, including_temporary(query)))]
            for query in QUERIES
        ]
        connection.rollback()

    side = catalogue_of(plain, version="", server_version=0)
    own = catalogue_of(told, version="", server_version=0)
    assert own == side
    ours = {relation.name: relation for relation in own.relations.values() if relation.schema == "own_reading"}
    parent, child = ours["parent"], ours["child"]
    assert len(parent.write_functions) == len(child.read_functions) == 1
    assert (parent.unique_columns, child.unique_columns, child.referencing_columns) == ({1}, {2}, {1})
    assert parent.columns[3].made_of == (1,)
    assert len(own.type_functions) >= 1


def _as_json(connection: psycopg.Connection, query: str) -> str:
    row = connection.execute(f"SELECT json_agg(row_to_json(answer.*))::text FROM ({query}) AS answer").fetchone()
    return str(row[0]) if row and row[0] else "[]"
