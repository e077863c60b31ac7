"""Over which other connections that is read which is written over one."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from gateway.domain.same_database import beside
from gateway.domain.snapshot import ConnectionSpec

CLINIC = ConnectionSpec(name="clinic", kind="postgres", host="db.example", port=5432, database="clinic")
HERE = replace(CLINIC, host="127.0.0.1")
WAREHOUSE = ConnectionSpec(name="warehouse", kind="bigquery", settings=MappingProxyType({"project": "lake"}))


def at(endpoint: str) -> ConnectionSpec:
    return replace(WAREHOUSE, settings=MappingProxyType({"project": "lake", "api_endpoint": endpoint}))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (CLINIC, replace(CLINIC, username="other", tls="require", phi=False, enabled=False), True),
        (CLINIC, replace(CLINIC, host="DB.example.", port=0), True),
        (CLINIC, replace(CLINIC, port=5433), False),
        (CLINIC, replace(CLINIC, database="Clinic"), False),
        (CLINIC, replace(CLINIC, host="other.example"), False),
        (CLINIC, replace(CLINIC, kind="mysql"), False),
        (HERE, replace(HERE, host="localhost"), True),
        (HERE, replace(HERE, host="[::1]"), True),
        (HERE, replace(HERE, host="/run/postgresql"), True),
        (HERE, CLINIC, False),
        (replace(HERE, host="/run/one"), replace(HERE, host="/run/one/"), True),
        (replace(HERE, host="/run/one"), replace(HERE, host="/run/other"), False),
        (WAREHOUSE, replace(WAREHOUSE, host="anything"), True),
        (WAREHOUSE, replace(WAREHOUSE, settings=MappingProxyType({"project": "other"})), False),
        (WAREHOUSE, at("https://bigquery.googleapis.com"), True),
        (WAREHOUSE, at("https://BigQuery.googleapis.com:443/"), True),
        (WAREHOUSE, at("https://bigquery.example"), False),
        (at("http://localhost:9050"), at("http://localhost:9051"), False),
    ],
)
def test_connections_to_one_database_are_known(first: ConnectionSpec, second: ConnectionSpec, *, same: bool) -> None:
    other = replace(second, name="another")

    assert beside(first, {each.name: each for each in (first, other)}) == (("another",) if same else ())
    assert beside(other, {each.name: each for each in (first, other)}) == ((first.name,) if same else ())
