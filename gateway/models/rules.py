"""Who may use which connections, how much of them, and the version of all rules."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from gateway.domain.quotas import LIMITS
from gateway.models.names import validate_name

OPERATIONS = ("read", "write", "temp", "listen", "ddl", "admin")


class AccessRule(models.Model):
    """Groups that may use connections (globs) for these operations: necessary for every statement."""

    name = models.CharField(max_length=120, unique=True)
    groups = ArrayField(models.CharField(max_length=150), help_text="names, separated by commas")
    connections = ArrayField(models.CharField(max_length=120), help_text="globs over connection names")
    operations = ArrayField(models.CharField(max_length=20), help_text="read, write, ddl, admin")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        unknown = sorted(set(self.operations or ()) - set(OPERATIONS))
        if unknown:
            raise ValidationError({"operations": f"{unknown[0]!r} is unknown, expected {', '.join(OPERATIONS)}"})


class Quota(models.Model):
    """How much each principal of these names may ask for on these connections together. Empty: no limit."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_name])
    agents = ArrayField(
        models.CharField(max_length=255), help_text="globs over names; each agent has a count of its own"
    )
    connections = ArrayField(models.CharField(max_length=120), help_text="globs over connection names")
    statements_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="also how many at once after a quiet minute"
    )
    statements_per_day = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    rows_per_day = models.PositiveBigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="the statement that passes it still ends"
    )
    bytes_per_day = models.PositiveBigIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    concurrent_statements = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="running ones; held ones do not count"
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if all(getattr(self, limit) is None for limit in LIMITS):
            raise ValidationError(f"expected at least one of {', '.join(LIMITS)}")


class ConfigVersion(models.Model):
    """The version of all rules: one row, raised in the transaction that changes them."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, validators=[MinValueValidator(1)])
    version = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.CheckConstraint(name="config_version_single_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return str(self.version)
