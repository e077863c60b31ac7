"""Attacks on tokens. Each begins from a token that is accepted, so that the refusal is for the one thing changed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from gateway.domain import tokens
from gateway.domain.connections import IdentityRules
from gateway.domain.identity import TokenVerifier, revalidated
from gateway.domain.jwks import JwksCache, KeysUnavailable, fetch_key_set
from gateway.domain.snapshot import AgentSpec, PersonSpec
from gateway.session.services import AuthenticationFailed
from tests.gateway.domain.issuer import TestIssuer, running_issuer


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with running_issuer() as running:
        yield running


def rules_with(issuer: TestIssuer | None = None, **changes: Any) -> IdentityRules:
    rules = IdentityRules(
        agents={"demo": AgentSpec(name="demo", groups=frozenset({"ai-agents"}), owner="alice")},
        people={"alice": PersonSpec(username="alice", groups=frozenset({"clinicians", "ai-agents"}))},
        issuers={issuer.url: issuer.spec} if issuer else {},
    )
    return replace(rules, **changes)


def own_token(**changes: Any) -> str:
    """A token as our own service signs it, with some claims or header fields changed."""
    now = int(time.time())
    header = {"alg": "ES256", "typ": "at+jwt", **changes.pop("header", {})}
    claims = {
        "iss": tokens.issuer_url(),
        "aud": "hoopweb",
        "sub": "demo",
        "kind": "agent",
        "groups": ["forged-group"],
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "jti": "own-1",
        **changes,
    }
    key = tokens.verification_keys().keys[0]
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"kid": key.kid, **header}, kept, key, algorithms=["ES256"])


def verify(token: str, rules: IdentityRules, verifier: TokenVerifier | None = None) -> Any:
    return (verifier or TokenVerifier()).verify_blocking(token, rules=rules)


def refusal(token: str, rules: IdentityRules, verifier: TokenVerifier | None = None) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        verify(token, rules, verifier)
    return caught.value.reason


def unsigned(token: str, algorithm: str) -> str:
    header = {"alg": algorithm, "typ": "at+jwt"}
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{encoded}.{token.split('.')[1]}."


def test_own_token_has_the_registrys_groups_and_owner() -> None:
    principal = verify(own_token(), rules_with())

    assert principal.subject == "demo"
    assert principal.groups == frozenset({"ai-agents"})
    assert principal.owner == "alice"
    assert principal.kind == "agent"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "ES256"])
def test_unsigned_token_is_refused(algorithm: str) -> None:
    assert refusal(unsigned(own_token(), algorithm), rules_with()) == "not a signed token"


@pytest.mark.parametrize("algorithm", ["none", "nOnE"])
def test_algorithm_none_with_a_signature_is_refused(algorithm: str) -> None:
    token = unsigned(own_token(), algorithm) + own_token().split(".")[2]

    assert refusal(token, rules_with()) == "the token's algorithm is not allowed for its issuer"


def test_hs256_with_the_public_key_is_refused(issuer: TestIssuer) -> None:
    rules = rules_with(issuer)
    assert verify(issuer.token(), rules).subject == "workload-1"

    token = issuer.token_signed_with_public_key()

    assert refusal(token, rules) == "the token's algorithm is not allowed for its issuer"


def test_hs256_is_refused_even_when_an_issuer_lists_it(issuer: TestIssuer) -> None:
    spec = replace(issuer.spec, algorithms=("HS256", "RS256"))

    token = issuer.token_signed_with_public_key()

    assert refusal(token, rules_with(issuers={issuer.url: spec})).startswith("the token's algorithm")


def test_key_in_the_header_is_not_used() -> None:
    mine = ECKey.generate_key("P-256")
    stolen = json.loads(base64.urlsafe_b64decode(own_token().split(".")[1] + "=="))
    header = {"alg": "ES256", "typ": "at+jwt", "jwk": mine.as_dict(private=False)}

    token = jwt.encode(header, stolen, mine, algorithms=["ES256"])

    assert refusal(token, rules_with()) == "the token's signature is not valid"


def test_changed_payload_is_refused() -> None:
    head, payload, signature = own_token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "other"}).encode()).rstrip(b"=").decode()

    assert refusal(f"{head}.{forged}.{signature}", rules_with()) == "the token's signature is not valid"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "other"}, "the token is for another audience"),
        ({"aud": ["other"]}, "the token is for another audience"),
        ({"aud": None}, "the token is for another audience"),
        ({"exp": None}, "the token's 'exp' claim is missing or malformed"),
        ({"exp": True}, "the token's 'exp' claim is missing or malformed"),
        ({"exp": "9999999999"}, "the token's 'exp' claim is missing or malformed"),
        ({"exp": 1e300}, "the token's 'exp' claim is missing or malformed"),
        ({"exp": 1_000_000}, "the token has expired"),
        ({"nbf": 9_999_999_999}, "the token is not valid yet"),
        ({"iat": 9_999_999_999}, "the token is not valid yet"),
        ({"iat": None}, "the token's 'iat' claim is missing or malformed"),
        ({"jti": None}, "the token's 'jti' claim is missing or malformed"),
        ({"sub": None}, "the token's 'sub' claim is missing or malformed"),
        ({"sub": ["demo"]}, "the token's 'sub' claim is missing or malformed"),
        ({"kind": "admin"}, "the token says neither agent nor person"),
        ({"sub": "nobody"}, "the agent is not registered or is switched off"),
        ({"iss": "https://elsewhere.example"}, "the token's issuer is not trusted"),
        ({"header": {"typ": "JWT"}}, "the token is not an access token"),
    ],
)
def test_wrong_claim_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert refusal(own_token(**changes), rules_with()) == reason


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "....", "eyJ9.e30.x", "A" * 20_000, "é.é.é"])
def test_garbage_is_refused(text: str) -> None:
    refusal(text, rules_with())


def test_key_id_that_is_no_text_is_refused(issuer: TestIssuer) -> None:
    token = issuer.token()
    header = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": ["first"]}).encode()).rstrip(b"=").decode()

    assert refusal(f"{header}.{token.partition('.')[2]}", rules_with(issuer)) == "not a signed token"


def test_revoked_token_is_refused() -> None:
    token = own_token()
    assert verify(token, rules_with()).token_id == "own-1"

    assert refusal(token, rules_with(revoked_tokens=frozenset({"own-1"}))) == "the token was revoked"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "the agent is not registered or is switched off"),
        ({"revoked_before": time.time() + 86_400}, "the agent's tokens were revoked"),
        ({"expires_at": 1.0}, "the agent's registration has expired"),
    ],
)
def test_agent_that_may_not_act_is_refused_and_its_session_ends(change: dict[str, Any], reason: str) -> None:
    live = verify(own_token(), rules_with())
    agent = replace(rules_with().agents["demo"], **change)
    rules = rules_with(agents={"demo": agent})

    assert refusal(own_token(), rules) == reason
    with pytest.raises(AuthenticationFailed, match=reason):
        revalidated(live, rules=rules)


def test_live_session_ends_with_its_token() -> None:
    live = verify(own_token(), rules_with())
    assert live.expires_at is not None
    assert revalidated(live, rules=rules_with()) == live

    with pytest.raises(AuthenticationFailed, match="expired"):
        revalidated(live, rules=rules_with(), now=live.expires_at + 6)


def test_delegated_token_has_only_the_rights_both_have() -> None:
    token = own_token(sub="alice", kind="person", act={"sub": "demo"})

    principal = verify(token, rules_with())

    assert (principal.subject, principal.actor, principal.owner) == ("alice", "demo", "alice")
    assert principal.groups == frozenset({"ai-agents"})


def test_delegated_token_ends_with_its_agent() -> None:
    token = own_token(sub="alice", kind="person", act={"sub": "demo"})

    assert refusal(token, rules_with(agents={})) == "the agent is not registered or is switched off"


def test_foreign_issuers_groups_are_mapped(issuer: TestIssuer) -> None:
    spec = replace(issuer.spec, groups_map={"ai-agents": "readers"})

    principal = verify(issuer.token(groups=["ai-agents", "privacy-officers"]), rules_with(issuers={issuer.url: spec}))

    assert principal.groups == frozenset({"readers"})
    assert principal.issuer == issuer.url


@pytest.mark.parametrize("name", ["readers\u200b", "\u202ereaders", "readers\nadmin", "readers\u3164"])
def test_foreign_issuers_groups_are_what_they_look_like(issuer: TestIssuer, name: str) -> None:
    """Going on without such a group would let its members off what a policy denies them."""
    mapped = replace(issuer.spec, groups_map={name: "readers"})
    token = issuer.token(groups=["analysts", name])

    assert "letters that cannot be seen: ⟨U+" in refusal(token, rules_with(issuer))
    assert verify(token, rules_with(issuers={issuer.url: mapped})).groups == {"readers"}  # nobody's name any more
    assert verify(issuer.token(groups=["Ärzte und Ärztinnen"]), rules_with(issuer)).groups == {"Ärzte und Ärztinnen"}


def test_foreign_persons_other_names_are_kept_and_give_no_right(issuer: TestIssuer) -> None:
    spec = replace(issuer.spec, kind="person")
    token = issuer.token(sub="00u1", email="ann@example.test", preferred_username="ann", upn=7, oid="x" * 300)

    principal = verify(token, rules_with(issuers={issuer.url: spec}))

    assert principal.known_as == {"00u1", "ann@example.test", "ann"}
    assert principal.humans == {"00u1", "ann@example.test", "ann"}
    assert principal.groups == verify(issuer.token(sub="00u1"), rules_with(issuers={issuer.url: spec})).groups


def test_delegated_token_keeps_the_persons_other_names() -> None:
    token = own_token(sub="alice", kind="person", act={"sub": "demo"}, known_as=["alice@example.test"])

    assert verify(token, rules_with()).humans >= {"alice", "alice@example.test", "demo"}


def test_foreign_issuer_cannot_speak_for_our_agents(issuer: TestIssuer) -> None:
    principal = verify(issuer.token(sub="demo", groups=["x"]), rules_with(issuer))

    assert (principal.issuer, principal.groups, principal.owner) == (issuer.url, frozenset({"x"}), None)


def test_session_ends_with_the_issuer_that_vouched_for_it(issuer: TestIssuer) -> None:
    rules = rules_with(issuer)
    live = verify(issuer.token(sub="x"), rules)
    assert revalidated(live, rules=rules).subject == live.subject

    with pytest.raises(AuthenticationFailed, match="not trusted any more"):
        revalidated(live, rules=rules_with())


def test_foreign_issuer_cannot_delegate(issuer: TestIssuer) -> None:
    assert "delegated" in refusal(issuer.token(act={"sub": "demo"}), rules_with(issuer))


def test_unknown_kid_is_refused(issuer: TestIssuer) -> None:
    other = RSAKey.generate_key(2048, parameters={"kid": "other"})

    token = issuer.token(header={"kid": "other"}, key=other)

    assert refusal(token, rules_with(issuer)) == "the token's signature is not valid"


def test_rotated_keys_are_fetched_once_and_old_ones_end(issuer: TestIssuer) -> None:
    verifier = TokenVerifier(JwksCache(retry_s=0))
    rules = rules_with(issuer)
    old = issuer.token()
    assert verify(old, rules, verifier).subject == "workload-1"
    assert verify(old, rules, verifier).subject == "workload-1"
    assert issuer.requests == 1

    issuer.rotate("second")

    assert verify(issuer.token(), rules, verifier).subject == "workload-1"
    assert issuer.requests == 2
    assert refusal(old, rules, verifier) == "the token's signature is not valid"


def test_unknown_kids_do_not_flood_the_issuer(issuer: TestIssuer) -> None:
    verifier = TokenVerifier(JwksCache(retry_s=60))
    verify(issuer.token(), rules_with(issuer), verifier)

    for number in range(20):
        refusal(issuer.token(header={"kid": f"k{number}"}), rules_with(issuer), verifier)

    assert issuer.requests == 1


@pytest.mark.parametrize("status", [500, 404, 302])
def test_issuer_without_keys_is_not_believed(issuer: TestIssuer, status: int) -> None:
    issuer.status = status

    assert refusal(issuer.token(), rules_with(issuer)) == "the issuer's keys are not available"


def test_cached_keys_outlive_an_outage_but_not_their_age(issuer: TestIssuer) -> None:
    cache = JwksCache(refresh_s=0, max_age_s=3600, retry_s=0)
    verifier = TokenVerifier(cache)
    rules = rules_with(issuer)
    verify(issuer.token(), rules, verifier)
    issuer.status = 500

    assert verify(issuer.token(), rules, verifier).subject == "workload-1"
    cache._max_age_s = 0  # an hour later

    assert refusal(issuer.token(), rules, verifier) == "the issuer's keys are not available"


async def test_verifying_in_the_event_loop_gives_the_same(issuer: TestIssuer) -> None:
    principal = await TokenVerifier().verify(issuer.token(), snapshot=rules_with(issuer))

    assert principal.subject == "workload-1"


def test_claim_given_twice_is_refused() -> None:
    """Two readers of such a token may read two different people; the signature is of both."""
    payload = base64.urlsafe_b64decode(own_token().split(".")[1] + "==").decode()
    twice = payload[:-1] + ',"sub":"demo"}'
    key = tokens.verification_keys().keys[0]
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    assert verify(jws.serialize_compact(header, payload, key), rules_with()).subject == "demo"  # the control

    assert refusal(jws.serialize_compact(header, twice, key), rules_with()) == "not a signed token"


def test_keys_nobody_here_knows_do_not_take_their_neighbours_away(issuer: TestIssuer) -> None:
    known = json.loads(issuer.body())["keys"]
    odd = [{"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"}, {"kty": "RSA"}, "x", {"kty": "oct", "k": "AA"}]
    issuer.body = lambda: json.dumps({"keys": [*odd, *known]}).encode()  # type: ignore[method-assign]

    assert verify(issuer.token(), rules_with(issuer)).subject == "workload-1"


@pytest.mark.parametrize("keys", [[], [{"kty": "RSA"}], {}, "keys", [None]])
def test_set_without_a_usable_key_is_no_keys(issuer: TestIssuer, keys: Any) -> None:
    issuer.body = lambda: json.dumps({"keys": keys}).encode()  # type: ignore[method-assign]

    assert refusal(issuer.token(), rules_with(issuer)) == "the issuer's keys are not available"


@pytest.mark.parametrize("url", ["https://169.254.169.254/jwks", "https://[fe80::1]/jwks", "https://0.0.0.0/jwks"])
def test_no_issuers_keys_are_fetched_where_clouds_keep_credentials(url: str) -> None:
    with pytest.raises(KeysUnavailable, match="no issuer has"):
        fetch_key_set(url)


def test_keys_in_plaintext_are_fetched_from_this_machine_only() -> None:
    with pytest.raises(KeysUnavailable, match="plain http"):
        fetch_key_set("http://192.0.2.1/jwks")


def test_person_an_agent_acts_for_is_restricted_as_either() -> None:
    rules = rules_with(people={"alice": PersonSpec(username="alice", groups=frozenset({"clinicians", "ai-agents"}))})

    principal = verify(own_token(sub="alice", kind="person", act={"sub": "demo"}), rules)

    assert principal.groups == frozenset({"ai-agents"})
    assert principal.either_groups == frozenset({"ai-agents", "clinicians"})
