"""Configuration of the data path, and the few rows identity needs: what the gateway loads into its Snapshot.

Nothing here is evidence: the log refers to these rows by value (names), because evidence must outlive configuration.
Every change of rules ends with `gateway.domain.version.bump_version()` in the same transaction.
"""

from __future__ import annotations

from gateway.models.agents import Agent, ClientSecret, UsedAssertion
from gateway.models.connections import STORED_COLUMN, Connection, Credential, subjects_problem
from gateway.models.identity import TOKEN_ALGORITHMS, Issuer, PersonStatus, RevokedToken, ScimToken, Ticket
from gateway.models.names import NAME, validate_name
from gateway.models.rules import OPERATIONS, AccessRule, ConfigVersion, Quota
from gateway.models.statements import RestStatement

__all__ = [
    "NAME",
    "OPERATIONS",
    "STORED_COLUMN",
    "TOKEN_ALGORITHMS",
    "AccessRule",
    "Agent",
    "ClientSecret",
    "ConfigVersion",
    "Connection",
    "Credential",
    "Issuer",
    "PersonStatus",
    "Quota",
    "RestStatement",
    "RevokedToken",
    "ScimToken",
    "Ticket",
    "UsedAssertion",
    "subjects_problem",
    "validate_name",
]
