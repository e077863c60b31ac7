"""Who is asking: from a token or a one-time password to a Principal, failing closed at every step.

The order matters. The unverified `iss` chooses nothing but which pinned issuer to try; the header's `alg` must be in
that issuer's allow-list (asymmetric only, RFC 8725 §3.1); every claim is read again from the verified payload. Groups
of our own issuer's agents and people come from the registry, not from the token: a token outlives a change of rights,
the registry does not.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from approvals.domain.request import Principal
from audit.domain.marks import hidden_in
from gateway.domain import tokens
from gateway.domain.jwks import JwksCache, KeysUnavailable
from gateway.domain.snapshot import AgentSpec, IssuerSpec, PersonSpec
from gateway.domain.threads import in_thread
from gateway.domain.tickets import TICKET_PREFIX, redeem_ticket
from gateway.models import TOKEN_ALGORITHMS
from gateway.session.services import AuthenticationFailed, Snapshots

LEEWAY_S = 5  # clock difference between issuer and gateway
MAX_TOKEN_CHARS = 16 * 1024  # Entra tokens with many groups reach 8 KiB
MAX_GROUPS = 500
# Whatever an issuer's own list says, nothing but these is ever tried (RFC 8725 §3.1).
ALLOWED_ALGORITHMS = frozenset(TOKEN_ALGORITHMS)
EVERY_DOOR = frozenset({tokens.AUDIENCE})


class IdentityRules(Protocol):
    """What of a Snapshot identity reads; the control plane loads just this (`connections.load_identity_rules`)."""

    @property
    def agents(self) -> Mapping[str, AgentSpec]: ...
    @property
    def people(self) -> Mapping[str, PersonSpec]: ...
    @property
    def issuers(self) -> Mapping[str, IssuerSpec]: ...
    @property
    def revoked_tokens(self) -> frozenset[str]: ...
    @property
    def vouched(self) -> Mapping[str, PersonSpec]: ...


class TokenVerifier:
    """Verifies bearer tokens. One per process: it owns the cache of issuers' keys."""

    def __init__(self, keys: JwksCache | None = None) -> None:
        self._keys = keys or JwksCache()

    async def verify(self, token: str, *, snapshot: IdentityRules, audiences: frozenset[str] = EVERY_DOOR) -> Principal:
        """Return whose token this is; raise AuthenticationFailed. Leaves the event loop only to fetch keys.

        `audiences` are those of our own tokens that are good at this door; other issuers' audience is pinned.
        """
        due = self._fetch_due(token, snapshot)
        if due is not None:
            await in_thread(self._keys.fetch, due)
        return verify_token(token, rules=snapshot, keys=self._keys, audiences=audiences)

    def verify_blocking(self, token: str, *, rules: IdentityRules) -> Principal:
        """The same for synchronous callers."""
        return self.present_blocking(token, rules=rules)[0]

    def present_blocking(self, token: str, *, rules: IdentityRules) -> tuple[Principal, dict[str, Any]]:
        """The principal and its verified claims, for who must read more of them than a Principal holds."""
        due = self._fetch_due(token, rules)
        if due is not None:
            self._keys.fetch(due)
        return verify_claims(token, rules=rules, keys=self._keys)

    def keys_at(self, spec: IssuerSpec, kid: str | None) -> KeySet:
        """The keys published at a pinned address, by the same cache. Raises KeysUnavailable."""
        if self._keys.needs_fetching(spec, kid):
            self._keys.fetch(spec)
        return self._keys.keys(spec)

    def _fetch_due(self, token: str, rules: IdentityRules) -> IssuerSpec | None:
        header, payload = unverified_parts(token)
        spec = rules.issuers.get(str(payload.get("iss")))
        if spec is None or not self._keys.needs_fetching(spec, header.get("kid")):
            return None
        return spec


class GatewayAuthenticator:
    """Fulfils `gateway.session.services.Authenticator`: a token or a ticket as a database password."""

    def __init__(self, snapshots: Snapshots, verifier: TokenVerifier) -> None:
        self._snapshots = snapshots
        self._verifier = verifier

    async def authenticate(
        self, *, user: str, secret: str, connection: str, client_address: str, tls: str
    ) -> Principal:
        """Whether the secret may cross this transport is the wire's to refuse, before the client sends it.

        Raises StaleSnapshot as well: nobody knows then whether the secret is good, and nothing says that it is not.
        """
        rules = self._snapshots.current()
        if secret.startswith(TICKET_PREFIX):
            principal = await in_thread(redeem_ticket, secret=secret, user=user, connection=connection)
            if principal is None:
                raise AuthenticationFailed("the ticket is unknown, used, expired or for another connection")
            return revalidated(principal, rules=rules)
        principal = await self._verifier.verify(secret, snapshot=rules)
        if principal.subject != user:
            raise AuthenticationFailed("the token's subject is not the user name")
        return principal


def verify_token(
    token: str,
    *,
    rules: IdentityRules,
    keys: JwksCache,
    now: float | None = None,
    audiences: frozenset[str] = EVERY_DOOR,
) -> Principal:
    """Verify signature and claims against the pinned issuer and return the Principal. No network."""
    return verify_claims(token, rules=rules, keys=keys, now=now, audiences=audiences)[0]


def verify_claims(
    token: str,
    *,
    rules: IdentityRules,
    keys: JwksCache,
    now: float | None = None,
    audiences: frozenset[str] = EVERY_DOOR,
) -> tuple[Principal, dict[str, Any]]:
    """As `verify_token`, with the verified claims."""
    moment = time.time() if now is None else now
    header, unverified = unverified_parts(token)
    issuer = unverified.get("iss")
    if issuer == tokens.issuer_url():
        claims = verified_claims(token, header, key_set=tokens.verification_keys(), algorithms=(tokens.ALGORITHM,))
        if header.get("typ") != tokens.TOKEN_TYPE:
            raise AuthenticationFailed("the token is not an access token")
        _check_claims(claims, issuer=tokens.issuer_url(), audiences=audiences, now=moment)
        return revalidated(_own_principal(claims), rules=rules, now=moment), claims
    spec = rules.issuers.get(issuer) if isinstance(issuer, str) else None
    if spec is None:
        raise AuthenticationFailed("the token's issuer is not trusted")
    try:
        key_set = keys.keys(spec)
    except KeysUnavailable:
        raise AuthenticationFailed("the issuer's keys are not available") from None
    claims = verified_claims(token, header, key_set=key_set, algorithms=spec.algorithms)
    _check_claims(claims, issuer=spec.issuer, audiences=frozenset({spec.audience}), now=moment)
    return revalidated(_foreign_principal(claims, spec), rules=rules, now=moment), claims


def revalidated(principal: Principal, *, rules: IdentityRules, now: float | None = None) -> Principal:
    """The principal with the rights of this moment; AuthenticationFailed when it has none any more.

    Also asked of live sessions: a principal that no longer validates ends its sessions.
    """
    moment, issued_at = time.time() if now is None else now, principal.issued_at
    if principal.expires_at is not None and moment > principal.expires_at + LEEWAY_S:
        raise AuthenticationFailed("the token has expired")
    if not rules.revoked_tokens.isdisjoint({principal.token_id, *principal.derived_from} - {""}):
        raise AuthenticationFailed("the token was revoked")
    if principal.issuer != tokens.issuer_url() and principal.issuer not in rules.issuers:
        raise AuthenticationFailed("the token's issuer is not trusted any more")
    actor = None if principal.actor is None else _live_agent(principal.actor, rules, issued_at, moment)
    if principal.kind == "agent" and principal.issuer == tokens.issuer_url():
        agent = _live_agent(principal.subject, rules, issued_at, moment)
        return replace(principal, groups=agent.groups, owner=agent.owner)
    groups = principal.groups
    if principal.kind == "person" and principal.issuer == tokens.issuer_url():
        groups = _live_person(principal.subject, rules, issued_at).groups
    elif known := rules.vouched.get(f"{principal.issuer}|{principal.subject}"):
        # Their provider still signs for them, and may not know yet that they were switched off here.
        _must_be_live(known, issued_at)
    if actor is None:
        return replace(principal, groups=groups)
    # An agent acting for a person has neither's rights alone: inheriting a human's unmask right is an attack.
    either = principal.either_groups | groups | actor.groups
    return replace(principal, groups=groups & actor.groups, either_groups=either, owner=actor.owner)


def unverified_parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload before any check: only to choose the pinned issuer and key. Raises AuthenticationFailed."""
    parts = token.split(".") if len(token) <= MAX_TOKEN_CHARS else []
    if len(parts) != 3 or not parts[2]:
        raise AuthenticationFailed("not a signed token")
    try:
        header, payload = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_once)
            for part in parts[:2]
        )
    except (ValueError, binascii.Error, RecursionError):
        raise AuthenticationFailed("not a signed token") from None
    if not isinstance(header, dict) or not isinstance(payload, dict) or not isinstance(header.get("kid", ""), str):
        raise AuthenticationFailed("not a signed token")
    return header, payload


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """A claim given twice says one thing to one reader and another to the next (RFC 7519 §4): refused."""
    made = dict(members)
    if len(made) != len(members):
        raise ValueError("a name is given twice")
    return made


def verified_claims(
    token: str, header: dict[str, Any], *, key_set: KeySet, algorithms: tuple[str, ...]
) -> dict[str, Any]:
    """The claims once the signature is one of `key_set` by an allowed algorithm. Raises AuthenticationFailed."""
    allowed = [name for name in algorithms if name in ALLOWED_ALGORITHMS]
    if header.get("alg") not in allowed:
        raise AuthenticationFailed("the token's algorithm is not allowed for its issuer")
    if "crit" in header:
        raise AuthenticationFailed("the token asks for extensions nobody here understands")
    try:
        return dict(jwt.decode(token, key_set, algorithms=allowed).claims)
    except (JoseError, ValueError, TypeError):
        raise AuthenticationFailed("the token's signature is not valid") from None


def _check_claims(claims: dict[str, Any], *, issuer: str, audiences: frozenset[str], now: float) -> None:
    if claims.get("iss") != issuer:
        raise AuthenticationFailed("the token's issuer is not trusted")
    named = claims.get("aud")
    listed = named if isinstance(named, list) else [named]
    if not any(isinstance(name, str) and name in audiences for name in listed):
        raise AuthenticationFailed("the token is for another audience")
    if now > number(claims, "exp") + LEEWAY_S:
        raise AuthenticationFailed("the token has expired")
    if number(claims, "iat") > now + LEEWAY_S or ("nbf" in claims and number(claims, "nbf") > now + LEEWAY_S):
        raise AuthenticationFailed("the token is not valid yet")


def _own_principal(claims: dict[str, Any]) -> Principal:
    kind = claims.get("kind")
    if kind not in {"agent", "person"}:
        raise AuthenticationFailed("the token says neither agent nor person")
    actor = claims.get("act")
    return Principal(
        subject=_text(claims, "sub"),
        # A person another issuer vouched for stays that issuer's person, with the groups it gave.
        issuer=_text(claims, "sub_iss") if "sub_iss" in claims else tokens.issuer_url(),
        groups=_groups(claims.get("groups", [])),
        kind=kind,
        actor=None if actor is None else _text(actor, "sub"),
        token_id=_text(claims, "jti"),
        auth_method="oidc",
        expires_at=number(claims, "exp"),
        issued_at=number(claims, "iat"),
        known_as=_groups(claims.get("known_as", [])),
        derived_from=_groups(claims.get("derived_from", [])),
        authenticated_at=number(claims, "auth_time") if "auth_time" in claims else None,
    )


def _foreign_principal(claims: dict[str, Any], spec: IssuerSpec) -> Principal:
    if groups_left_out(claims, spec.groups_claim):
        raise AuthenticationFailed("the token leaves its groups out because they are too many")
    named = _groups(claims.get(spec.groups_claim, []))
    groups = frozenset(spec.groups_map[name] for name in named if name in spec.groups_map) if spec.groups_map else named
    if "act" in claims:
        # Its actor is nobody in our registry; `act` is ours to give, through the token exchange.
        raise AuthenticationFailed("the token is delegated by another issuer; exchange it here")
    return Principal(
        subject=_text(claims, spec.subject_claim),
        issuer=spec.issuer,
        groups=_seen(groups),
        kind=spec.kind,
        token_id=str(claims.get("jti", "")),
        auth_method="oidc",
        expires_at=number(claims, "exp"),
        issued_at=number(claims, "iat"),
        known_as=_names(claims) if spec.kind == "person" else frozenset(),
    )


# OpenID Connect Core §5.1, and what Entra ID adds. Nobody gains a right by these: they only keep a person from deciding
# on their own request under an account that is called otherwise than the issuer's subject.
_NAMES = ("sub", "email", "preferred_username", "upn", "unique_name", "oid")


def _names(claims: Mapping[str, Any]) -> frozenset[str]:
    named = (claims.get(name) for name in _NAMES)
    return frozenset(name for name in named if isinstance(name, str) and 0 < len(name) <= 255)


def groups_left_out(claims: Mapping[str, Any], claim: str) -> bool:
    """Whether the issuer says there are groups it did not list: Entra's overage (`_claim_names`, `hasgroups`).

    Who has no groups and whose groups are unknown are different people; the link is not followed.
    """
    names = claims.get("_claim_names")
    return (isinstance(names, dict) and claim in names) or claims.get("hasgroups") in (True, "true")


def _live_agent(name: str, rules: IdentityRules, issued_at: float | None, now: float) -> AgentSpec:
    agent = rules.agents.get(name)
    if agent is None or not agent.enabled:
        raise AuthenticationFailed("the agent is not registered or is switched off")
    if agent.expires_at is not None and now >= agent.expires_at:
        raise AuthenticationFailed("the agent's registration has expired")
    if issued_at is not None and issued_at < agent.revoked_before:
        raise AuthenticationFailed("the agent's tokens were revoked")
    return agent


def _live_person(username: str, rules: IdentityRules, issued_at: float | None) -> PersonSpec:
    person = rules.people.get(username)
    if person is None:
        raise AuthenticationFailed("the account does not exist or is switched off")
    _must_be_live(person, issued_at)
    return person


def _must_be_live(person: PersonSpec, issued_at: float | None) -> None:
    if not person.enabled:
        raise AuthenticationFailed("the account does not exist or is switched off")
    if issued_at is not None and issued_at < person.revoked_before:
        raise AuthenticationFailed("the person's tokens were revoked")


def _text(claims: Any, name: str) -> str:
    value = claims.get(name) if isinstance(claims, dict) else None
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise AuthenticationFailed(f"the token's {name!r} claim is missing or malformed")
    return value


def number(claims: Mapping[str, Any], name: str) -> float:
    """A claim that is a time (RFC 7519 §2 NumericDate). Raises AuthenticationFailed."""
    value = claims.get(name)
    # bool is an int; NaN and infinity would make every comparison pass.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise AuthenticationFailed(f"the token's {name!r} claim is missing or malformed")
    return float(value)


def _groups(value: Any) -> frozenset[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS or not all(isinstance(name, str) for name in listed):
        raise AuthenticationFailed("the token's groups are malformed")
    return frozenset(listed)


def _seen(groups: frozenset[str]) -> frozenset[str]:
    """Groups whose names are plainly what they look like, in rules, lists and logs.

    One that is not is no reason to go on without it: a policy may deny its members something.
    """
    for name in groups:
        if hidden := hidden_in(name):
            raise AuthenticationFailed(f"a group of the token has letters that cannot be seen: {hidden}")
    return groups
