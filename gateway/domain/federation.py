"""Workloads that prove who they are by their platform: which of a pinned issuer's tokens stand for an agent. Pure.

A rule names an issuer and what claims of its token must say. Signature, audience, algorithm and times are checked
before a rule is asked; a rule only ever narrows. At least one claim is matched exactly: a rule of globs alone would
sooner or later match somebody else's workload.

A claim is named as it stands in the token, or by its path (`kubernetes.io/namespace`). In a pattern `*` stands for any
run of characters but `/` and `:`, `**` for any at all: `repo:org/*` cannot reach into another part of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_RULES = 20
MAX_CLAIMS = 20
MAX_PATTERN_CHARS = 500
# Of the token itself, checked elsewhere: matching them in a rule would suggest that a rule is enough.
_NOT_FOR_RULES = frozenset({"iss", "exp", "nbf", "iat", "jti"})
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Preset:
    """What is public about a platform: where its issuer and keys are, and which claims say whose workload it is.

    `issuer` and `jwks_uri` may hold `{place}`, which an administrator gives (a tenant, a cluster's or a trust domain's
    issuer URL). `claims` are those a rule should ask, the first always.
    """

    title: str
    issuer: str
    jwks_uri: str
    algorithms: tuple[str, ...]
    claims: tuple[tuple[str, str], ...]  # claim, an example
    place: str = ""  # what {place} is, in words

    def at(self, place: str) -> dict[str, Any]:
        """The issuer's fields with `place` filled in."""
        given = place.strip().rstrip("/")
        return {
            "issuer": self.issuer.replace("{place}", given),
            "jwks_uri": self.jwks_uri.replace("{place}", given),
            "algorithms": list(self.algorithms),
        }


PRESETS: Mapping[str, Preset] = {
    # docs.github.com/actions/reference/security/oidc
    "github-actions": Preset(
        "GitHub Actions",
        "https://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com/.well-known/jwks",
        ("RS256",),
        (("repository", "org/repo"), ("ref", "refs/heads/main"), ("environment", "")),
    ),
    # docs.gitlab.com/ci/secrets/id_token_authentication
    "gitlab-ci": Preset(
        "GitLab CI",
        "{place}",
        "{place}/oauth/discovery/keys",
        ("RS256",),
        (("project_path", "group/project"), ("ref", "main"), ("ref_type", "branch"), ("ref_protected", "true")),
        place="URL of your GitLab, such as https://gitlab.com",
    ),
    # cloud.google.com/docs/authentication/token-types#id
    "google": Preset(
        "Google service account",
        "https://accounts.google.com",
        "https://www.googleapis.com/oauth2/v3/certs",
        ("RS256",),
        (("sub", "the account's numeric unique id"), ("email", ""), ("email_verified", "true")),
    ),
    # learn.microsoft.com/entra/identity-platform/access-token-claims-reference
    "entra": Preset(
        "Entra ID workload",
        "https://login.microsoftonline.com/{place}/v2.0",
        "https://login.microsoftonline.com/{place}/discovery/v2.0/keys",
        ("RS256",),
        (("oid", "object id of the service principal"), ("azp", ""), ("idtyp", "app")),
        place="tenant id",
    ),
    # kubernetes.io/docs/tasks/configure-pod-container/configure-service-account (issuer discovery)
    "kubernetes": Preset(
        "Kubernetes service account",
        "{place}",
        "{place}/openid/v1/jwks",
        ("RS256", "ES256"),
        (("sub", "system:serviceaccount:namespace:name"), ("kubernetes.io/namespace", "")),
        place="the cluster's service-account issuer URL",
    ),
    # github.com/spiffe/spiffe standards/JWT-SVID.md, keys by the OIDC discovery provider
    "spiffe": Preset(
        "SPIFFE JWT-SVID",
        "{place}",
        "{place}/keys",
        ("ES256", "ES384", "RS256"),
        (("sub", "spiffe://trust.domain/path"),),
        place="URL of the trust domain's OIDC discovery provider (SPIRE's jwt_issuer)",
    ),
}


def federation_problem(rules: object) -> str:
    """What is wrong with an agent's federation rules, in words, or nothing."""
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        return f"expected a list of at most {MAX_RULES} rules"
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict) or set(rule) != {"issuer", "claims"}:
            return f"rule {number}: expected issuer and claims"
        if not isinstance(rule["issuer"], str) or not rule["issuer"]:
            return f"rule {number}: expected the URL of an issuer"
        if problem := _claims_problem(rule["claims"]):
            return f"rule {number}: {problem}"
    return ""


def matches(rules: Iterable[Mapping[str, Any]], *, issuer: str, claims: Mapping[str, Any]) -> bool:
    """Whether one of the rules is of this issuer and everything it asks of the verified claims is so."""
    return any(
        rule.get("issuer") == issuer and not federation_problem([dict(rule)]) and _all_match(rule["claims"], claims)
        for rule in rules
    )


def _claims_problem(asked: object) -> str:
    if not isinstance(asked, dict) or not 1 <= len(asked) <= MAX_CLAIMS:
        return f"expected 1 to {MAX_CLAIMS} claims, each with what it must say"
    for name, pattern in asked.items():
        if not isinstance(name, str) or not name or name in _NOT_FOR_RULES:
            return f"{name!r} is no claim a rule can ask for"
        if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_CHARS:
            return f"{name}: expected a text of at most {MAX_PATTERN_CHARS} characters"
    if all("*" in pattern for pattern in asked.values()):
        return "expected at least one claim without a '*', or the rule matches workloads nobody knows"
    return ""


def _all_match(asked: Mapping[str, str], claims: Mapping[str, Any]) -> bool:
    return all(_says(_claim(claims, name), pattern) for name, pattern in asked.items())


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, else by its path. Names of claims may hold dots and slashes themselves."""
    if name in claims:
        return claims[name]
    head, slash, rest = name.partition("/")
    inner = claims.get(head, _MISSING) if slash else _MISSING
    return _claim(inner, rest) if isinstance(inner, dict) else _MISSING


def _says(value: Any, pattern: str) -> bool:
    """A text that matches, a list of texts one of which does, or true and false by their names. Nothing else."""
    if isinstance(value, bool):
        return pattern == ("true" if value else "false")
    if isinstance(value, list):
        return any(isinstance(item, str) and _says(item, pattern) for item in value)
    return isinstance(value, str) and _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*+)", pattern)
    return re.compile("".join(_expression(part) for part in parts), re.DOTALL)


def _expression(part: str) -> str:
    if not part.startswith("*"):
        return re.escape(part)
    return "[^/:]*" if part == "*" else ".*"
