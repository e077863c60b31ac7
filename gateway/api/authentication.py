"""Bearer tokens at the REST API: `request.auth` is the Principal, `request.user` the account or a stand-in for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from approvals.domain.request import Principal
from audit.domain.append import append_entries
from gateway.domain import tokens
from gateway.domain.connections import load_identity_rules
from gateway.domain.identity import TokenVerifier
from gateway.session import entries
from gateway.session.services import AuthenticationFailed

logger = logging.getLogger(__name__)

verifier = TokenVerifier()  # one per process: it caches issuers' keys


@dataclass(frozen=True)
class PrincipalUser:
    """Stands in for an account where there is none: agents, and people of other issuers. Has no permission."""

    principal: Principal
    pk: None = None
    is_authenticated: bool = True
    is_anonymous: bool = False
    is_active: bool = True
    is_staff: bool = False
    is_superuser: bool = False

    @property
    def username(self) -> str:
        return self.principal.subject

    def get_username(self) -> str:
        return self.principal.subject

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return False

    def has_perms(self, perms: Any, obj: object = None) -> bool:
        return False

    def __str__(self) -> str:
        return self.principal.subject


class BearerAuthentication(authentication.BaseAuthentication):
    keyword = "Bearer"

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | PrincipalUser, Principal] | None:
        token = bearer_token(request.headers.get("Authorization", ""))
        if token is None:
            return None
        try:
            principal = verifier.verify_blocking(token, rules=load_identity_rules())
        except AuthenticationFailed as failed:
            record_failure(failed, protocol="rest", client_address=client_address(request))
            raise exceptions.AuthenticationFailed("the token is not accepted") from None
        return account_of(principal), principal

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="hoopweb"'


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


def bearer_token(header: str) -> str | None:
    """The token of an `Authorization` header, None when it is of another scheme (RFC 6750 §2.1)."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def account_of(principal: Principal) -> AbstractBaseUser | PrincipalUser:
    """A local account only for our own issuer's people: another issuer's `admin` is not ours."""
    if principal.kind == "person" and principal.actor is None and principal.issuer == tokens.issuer_url():
        return User.objects.get(username=principal.subject)
    return PrincipalUser(principal)


def principal_of(request: Request) -> Principal:
    """The Principal of a bearer request, or of the account signed in with a session cookie."""
    if isinstance(request.auth, Principal):
        return request.auth
    return person_principal(request.user)


def person_principal(user: Any) -> Principal:
    if isinstance(user, AnonymousUser) or not user.is_active:
        raise exceptions.NotAuthenticated
    return Principal(
        subject=user.get_username(),
        issuer=tokens.issuer_url(),
        groups=frozenset(user.groups.values_list("name", flat=True)),
        kind="person",
        auth_method="session",
    )


def token_for_relay(request: Request) -> str:
    """The caller's own token; for an account signed in with a cookie, one that lives as long as the call may wait."""
    token = bearer_token(request.headers.get("Authorization", ""))
    return token or tokens.issue_person_token(request.user, ttl_s=SESSION_RELAY_TTL_S)


SESSION_RELAY_TTL_S = 3600


def client_address(request: Request) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def record_failure(failed: AuthenticationFailed, *, protocol: str, client_address: str) -> None:
    """Log-in monitoring (45 CFR 164.308(a)(5)(ii)(C)). The caller is refused whether or not this succeeds."""
    try:
        append_entries(
            [
                entries.authentication_failed(
                    protocol=protocol, client_address=client_address, claimed="", connection="", reason=failed.reason
                )
            ]
        )
    except Exception as error:
        logger.error("failed authentication not recorded: error=%s", type(error).__name__)
