"""The embedded identity provider of the demo: django-oidc-provider, cut down to one safe flow.

Why and what is left out is `docs/decisions/0002-embedded-identity-provider.md`. In short: confidential clients only,
authorization code with PKCE S256 only, client secrets stored as digests, access and refresh tokens neither returned to
be used nor kept (nothing here accepts them), one-minute codes, no user-info, introspection or session management.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from oidc_provider.lib.endpoints.authorize import AuthorizeEndpoint
from oidc_provider.lib.endpoints.token import TokenEndpoint
from oidc_provider.lib.errors import AuthorizeError, TokenError
from oidc_provider.models import Client, ResponseType, RSAKey, Token
from oidc_provider.views import AuthorizeView, JwksView, TokenView

# Of `oidc_authentication_callback`, said here so that preparing the provider needs none of the console's pages.
CALLBACK = "/oidc/callback/"


class HardenedAuthorizeEndpoint(AuthorizeEndpoint):  # type: ignore[misc]
    """Refuses what the package would let pass: public clients, other flows, no PKCE, plain PKCE."""

    def validate_params(self) -> None:
        super().validate_params()
        asked = self.params
        safe = (
            self.client.client_type == "confidential"
            and asked["response_type"] == "code"
            and asked["code_challenge"]
            and asked["code_challenge_method"] == "S256"
        )
        if not safe:
            raise AuthorizeError(asked["redirect_uri"], "invalid_request", self.grant_type)


class HardenedAuthorizeView(AuthorizeView):  # type: ignore[misc]
    authorize_endpoint_class = HardenedAuthorizeEndpoint


class HardenedTokenEndpoint(TokenEndpoint):  # type: ignore[misc]
    """One grant, confidential clients, digested secrets; leaves no token behind."""

    def _extract_params(self) -> None:
        super()._extract_params()
        # The package compares with what is stored; what is stored is a digest.
        self.params["client_secret"] = secret_digest(self.params["client_secret"] or "")

    def validate_params(self) -> None:
        client = Client.objects.filter(client_id=self.params["client_id"]).first()
        if client is None or client.client_type != "confidential":
            raise TokenError("invalid_client")
        if not hmac.compare_digest(client.client_secret, self.params["client_secret"]):
            raise TokenError("invalid_client")
        if self.params["grant_type"] != "authorization_code":
            raise TokenError("unsupported_grant_type")
        super().validate_params()
        if not self.code.code_challenge or self.code.code_challenge_method != "S256":
            raise TokenError("invalid_grant")

    def create_response_dic(self) -> dict[str, Any]:
        answer = dict(super().create_response_dic())
        Token.objects.filter(access_token=answer["access_token"]).delete()
        answer.pop("refresh_token", None)
        return answer


class HardenedTokenView(TokenView):  # type: ignore[misc]
    token_endpoint_class = HardenedTokenEndpoint


def provider_metadata(request: HttpRequest) -> HttpResponse:
    """OpenID Connect Discovery 1.0 §4, of what is really served."""
    base = settings.HOOPWEB_WEB_URL
    return JsonResponse(
        {
            "issuer": issuer(),
            "authorization_endpoint": base + reverse("oidc_provider:authorize"),
            "token_endpoint": base + reverse("oidc_provider:token"),
            "jwks_uri": base + reverse("oidc_provider:jwks"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "claims_supported": ["sub", "preferred_username", "email", "groups"],
        }
    )


# Mounted under the package's namespace, because its own code reverses these names.
urlpatterns = [
    path("authorize", HardenedAuthorizeView.as_view(), name="authorize"),
    path("token", csrf_exempt(HardenedTokenView.as_view()), name="token"),
    path("jwks", JwksView.as_view(), name="jwks"),
    path(".well-known/openid-configuration", provider_metadata, name="provider-info"),
]


def issuer() -> str:
    return f"{settings.HOOPWEB_WEB_URL}/openid"


def subject_of(user: AbstractBaseUser) -> str:
    """OIDC_IDTOKEN_SUB_GENERATOR: the user name, which is what evidence names people by."""
    return user.get_username()


def add_claims(id_token: dict[str, Any], user: User, **_: Any) -> dict[str, Any]:
    """OIDC_IDTOKEN_PROCESSING_HOOK."""
    groups = list(user.groups.order_by("name").values_list("name", flat=True))
    return {**id_token, "preferred_username": user.get_username(), "email": user.email, "groups": groups}


def secret_digest(secret: str) -> str:
    """What is stored of a client secret. The secrets are random, so a fast keyed digest is enough."""
    return hmac.new(settings.SECRET_KEY.encode(), b"oidc client\x00" + secret.encode(), hashlib.sha256).hexdigest()


@transaction.atomic
def ensure_embedded_provider() -> None:
    """Create or renew what the provider needs: a signing key and the console's own client. Repeatable."""
    if not RSAKey.objects.exists():
        RSAKey.objects.create(key=_new_rsa_key())
    client, _ = Client.objects.update_or_create(
        client_id=settings.OIDC_RP_CLIENT_ID,
        defaults={
            "name": "hoopweb console",
            "client_type": "confidential",
            "client_secret": secret_digest(settings.OIDC_RP_CLIENT_SECRET),
            "jwt_alg": "RS256",
            "require_consent": False,
            "_redirect_uris": f"{settings.HOOPWEB_WEB_URL}{CALLBACK}",
            "_scope": "openid profile email",
        },
    )
    code, _ = ResponseType.objects.get_or_create(value="code", defaults={"description": "code"})
    client.response_types.set([code])


def _new_rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
