"""Draft policies as people write them, tried over recorded traffic: read, checked as the console would, recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from django.core.exceptions import ValidationError

from approvals.domain import hooks
from approvals.domain.decide import PolicyRule
from approvals.domain.load import load_policies, policy_rule
from approvals.domain.policies import FIELDS
from approvals.domain.refusal import Refusal
from approvals.domain.simulate import Rules, Simulation, simulate, with_draft
from approvals.models import Policy
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json

BAD_DRAFT = "bad-draft"
MAX_CHARS = 100_000
MAX_DRAFTS = 50


def read_drafts(text: str) -> tuple[PolicyRule, ...]:
    """Policies from YAML: one mapping, a list, or a document with `policies:`. Raises Refusal with the place."""
    if len(text) > MAX_CHARS:
        raise Refusal(BAD_DRAFT, f"the draft has {len(text)} characters, expected at most {MAX_CHARS}")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            # A few lines of aliases can stand for a document that takes for ever to walk.
            raise Refusal(BAD_DRAFT, "the draft holds an alias (*name), expected it written out")
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise Refusal(BAD_DRAFT, "the draft is not YAML") from None
    if isinstance(document, Mapping) and "policies" in document:
        document = document["policies"]
    return draft_rules([document] if isinstance(document, Mapping) else document or [])


def draft_rules(documents: object) -> tuple[PolicyRule, ...]:
    """The rules these policy documents would be. Switched-off ones are none. Raises Refusal."""
    if not isinstance(documents, list) or len(documents) > MAX_DRAFTS:
        raise Refusal(BAD_DRAFT, f"expected a policy, or a list of at most {MAX_DRAFTS}")
    rules = [_draft(item, f"policies[{index}]") for index, item in enumerate(documents)]
    return tuple(rule for rule, enabled in rules if enabled)


def try_drafts(
    *, drafts: Sequence[PolicyRule], without: Sequence[str], days: int, on_connection: str, by: str
) -> Simulation:
    """Simulate, and record that somebody looked at the recorded traffic in this way."""
    access, policies = hooks.access_rules(), load_policies()
    unknown = sorted(set(without) - {policy.name for policy in policies})
    if unknown:
        raise Refusal(BAD_DRAFT, f"there is no policy {unknown[0]!r}")
    result = simulate(
        now=Rules(access, policies),
        draft=Rules(access, with_draft(policies, drafts=drafts, without=without)),
        days=days,
        on_connection=on_connection,
    )
    body: dict[str, Json] = {
        "subject": by,
        "connection": on_connection,
        "policies": sorted(draft.name for draft in drafts),
        "without": sorted(without),
        "days": days,
        "statements": result.statements,
        "changed": result.changed,
    }
    append_entries([Entry(kind="policy.simulated", body=body)])
    return result


def _draft(item: object, path: str) -> tuple[PolicyRule, bool]:
    if not isinstance(item, Mapping):
        raise Refusal(BAD_DRAFT, f"{path}: expected a mapping")
    unknown = sorted(set(map(str, item)) - set(FIELDS))
    if unknown:
        raise Refusal(BAD_DRAFT, f"{path}.{unknown[0]}: is not a known key")
    policy = Policy(**item)
    try:
        policy.clean_fields()
        policy.clean()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Refusal(BAD_DRAFT, f"{path}.{field}: {messages[0]}") from None
    except (TypeError, ValueError, AttributeError):
        raise Refusal(BAD_DRAFT, f"{path}: holds a value of another type than expected") from None
    return policy_rule(policy), policy.enabled
