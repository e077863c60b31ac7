"""Public keys as people and issuers give them: what of a JWK set (RFC 7517) may verify a signature."""

from __future__ import annotations

import json
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, RSAKey

MIN_RSA_BITS = 2048
MAX_REGISTERED = 5
_KINDS = frozenset({"RSA", "EC", "OKP"})
_USES = frozenset({"sig", "jwt-svid"})  # the second in bundles of SPIFFE (JWT-SVID §4.1)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# What verifying needs: no private half, and no pointer elsewhere (`x5u`) to follow.
_KEPT = frozenset({"kty", "kid", "alg", "crv", "x", "y", "n", "e"})


class KeysUnavailable(RuntimeError):
    """The issuer's keys could not be fetched, or are not keys."""


def public_keys(body: bytes) -> KeySet:
    """The usable public signature keys of a JWK set; symmetric, private-use and unknown kinds are left out."""
    try:
        listed = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeysUnavailable("not a JWK set") from error
    return public_keys_of(listed)


def public_keys_of(listed: Any) -> KeySet:
    """The same of a set that is already read. Raises KeysUnavailable.

    A key of a kind or curve nobody here knows is left out: it must not take its neighbours away.
    """
    usable = [key for key in map(_usable, listed) if key is not None] if isinstance(listed, list) else []
    if not usable:
        raise KeysUnavailable("a JWK set without a usable key")
    return KeySet(usable)


def registered_keys_problem(value: object) -> str:
    """What is wrong with a JWK set somebody registers for an agent, in words, or nothing."""
    listed = value.get("keys") if isinstance(value, dict) and set(value) == {"keys"} else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_REGISTERED:
        return f'expected {{"keys": [...]}} with 1 to {MAX_REGISTERED} public keys'
    if problem := next(filter(None, map(_key_problem, listed)), ""):
        return problem
    if len({key["kid"] for key in listed}) != len(listed):
        return "two keys have the same kid"
    keys = [_usable(key) for key in listed]
    if None in keys:
        return "a key is malformed, or not for signatures"
    small = any(isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS for key in keys)
    return f"an RSA key is shorter than {MIN_RSA_BITS} bits" if small else ""


def _key_problem(key: object) -> str:
    if not isinstance(key, dict) or key.get("kty") not in _KINDS:
        return "expected keys of kind RSA, EC or OKP"
    if _PRIVATE & set(key):
        return "holds a private key; register the public half alone, and replace this key"
    if not isinstance(key.get("kid"), str) or not key["kid"]:
        return "expected a kid on every key: it says which of two keys signed while one replaces the other"
    return ""


def _usable(key: Any) -> Key | None:
    if not isinstance(key, dict) or key.get("kty") not in _KINDS or key.get("use", "sig") not in _USES:
        return None
    kept = {name: value for name, value in key.items() if name in _KEPT}
    try:
        return KeySet.import_key_set({"keys": [{**kept, "use": "sig"}]}).keys[0]
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        return None
