"""Who vouches for principals and people, and what was withdrawn."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from gateway.domain.addresses import keys_address_problem
from gateway.models.names import validate_name

# Asymmetric signatures only (RFC 8725 §3.1): a shared-secret algorithm would make every verifier an issuer.
TOKEN_ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")


class Issuer(models.Model):
    """A trusted OIDC issuer, pinned by its exact `iss`. Nothing else is ever fetched or believed."""

    class Kind(models.TextChoices):
        AGENT = "agent", "agents"
        PERSON = "person", "people"

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    issuer = models.URLField(unique=True, max_length=500, help_text="exactly what its tokens say in iss")
    jwks_uri = models.URLField("JWKS address", max_length=500, help_text="where its public keys are (jwks_uri)")
    audience = models.CharField(max_length=255, default="hoopweb", help_text="what its tokens must say in aud")
    algorithms = ArrayField(
        models.CharField(max_length=10), default=list, help_text="separated by commas, such as RS256, ES256"
    )
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.AGENT, help_text="whose tokens it issues")
    subject_claim = models.CharField(max_length=63, default="sub", help_text="the claim that names whose token it is")
    groups_claim = models.CharField(max_length=63, default="groups", help_text="the claim that lists their groups")
    groups_map = models.JSONField(default=dict, blank=True, help_text="claim value → group; empty: values are groups")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        unknown = sorted(set(self.algorithms or ()) - set(TOKEN_ALGORITHMS))
        if unknown or not self.algorithms:
            expected = ", ".join(TOKEN_ALGORITHMS)
            raise ValidationError({"algorithms": f"{unknown[:1] or 'nothing'} given, expected some of {expected}"})
        if problem := keys_address_problem(self.jwks_uri):
            raise ValidationError({"jwks_uri": problem})
        if not isinstance(self.groups_map, dict) or not all(isinstance(v, str) for v in self.groups_map.values()):
            raise ValidationError({"groups_map": "expected an object of text values"})


class Ticket(models.Model):
    """A one-time password for drivers. The secret is stored hashed; the principal is kept by value."""

    secret_hash = models.CharField(max_length=64, unique=True)
    subject = models.CharField(max_length=255)
    principal = models.JSONField()
    connection = models.CharField(max_length=63)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"ticket of {self.subject} for {self.connection}"


class RevokedToken(models.Model):
    """A token withdrawn before its expiry, by `jti`. Rows may go once the token would have expired."""

    jti = models.CharField("token id", max_length=255, unique=True, help_text="the token's jti, as the log names it")
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(auto_now_add=True)
    reason = models.CharField(max_length=255, blank=True)

    def __str__(self) -> str:
        return self.jti


class PersonStatus(models.Model):
    """What identity must know of a person beyond Django's account: who vouches for them, since when tokens count."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="hoopweb_status")
    revoked_before = models.DateTimeField(null=True, blank=True)
    oidc_subject = models.CharField(max_length=800, null=True, blank=True, unique=True, help_text="'<issuer>|<sub>'")
    managed = models.BooleanField(default=False, help_text="the identity provider made the account and may change it")
    external_id = models.CharField(max_length=255, null=True, blank=True, unique=True, help_text="SCIM externalId")

    def __str__(self) -> str:
        return str(self.user)


class ScimToken(models.Model):
    """A bearer token of the identity provider's, with which it keeps people and groups (SCIM). Stored hashed."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    digest = models.CharField(max_length=64, editable=False, db_index=True)  # 256 random bits need no slow hash
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = "provisioning token"

    def __str__(self) -> str:
        return self.name
