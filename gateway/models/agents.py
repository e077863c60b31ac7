"""Agents, and what they prove themselves with."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from gateway.domain.addresses import keys_address_problem
from gateway.domain.federation import federation_problem
from gateway.domain.public_keys import registered_keys_problem
from gateway.models.names import validate_name


class Agent(models.Model):
    """A software principal: who answers for it, what it may join, and since when its tokens count."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    groups = ArrayField(models.CharField(max_length=150), default=list, blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agents")
    purpose = models.CharField(max_length=500, blank=True)
    enabled = models.BooleanField(default=True)
    revoked_before = models.DateTimeField(null=True, blank=True, help_text="tokens issued earlier are refused")
    expires_at = models.DateTimeField(null=True, blank=True)
    client_id = models.CharField(max_length=80, unique=True)
    federated_subjects = ArrayField(
        models.CharField(max_length=700),
        default=list,
        blank=True,
        help_text="whose tokens may be exchanged for this agent's, as ISSUER-URL|SUBJECT, separated by commas",
    )
    federation = models.JSONField(default=list, blank=True)  # [{"issuer": …, "claims": {claim: pattern}}]
    jwks = models.JSONField("public keys", default=dict, blank=True)  # a JWK set, for private_key_jwt
    jwks_uri = models.URLField("address of its public keys", max_length=500, blank=True)
    last_token_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if problem := federation_problem(self.federation):
            raise ValidationError({"federation": problem})
        if self.jwks and (problem := registered_keys_problem(self.jwks)):
            raise ValidationError({"jwks": problem})
        if self.jwks and self.jwks_uri:
            raise ValidationError({"jwks_uri": "keys are registered already, expected either those or an address"})
        if problem := keys_address_problem(self.jwks_uri):
            raise ValidationError({"jwks_uri": problem})


class ClientSecret(models.Model):
    """One of an agent's secrets. Two may live at once, so that nothing stops while one replaces the other."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="client_secrets")
    digest = models.CharField(max_length=255)  # a slow hash
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"secret {self.pk} of {self.agent_id}"


class UsedAssertion(models.Model):
    """A client assertion that was presented (RFC 7523 §3 point 7). Kept until it has expired by itself."""

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest[:12]
