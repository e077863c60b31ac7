"""What is sensitive (DataClass, ColumnTag) and what is done about it (MaskingRule).

Lower apps refer upward by value: connections are named, never keyed. `masking.domain.load` turns these rows into the
frozen rules of a snapshot; after a change `masking.domain.hooks.rules_changed` must be called in the transaction.
"""

from __future__ import annotations

import re

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models

from masking.domain.rules import Inference, Technique

validate_label = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]{0,62}$", "expected lower-case letters, digits, '-' and '_', at most 63 characters"
)
_GLOB = re.compile(r"[^\s,]+")


def validate_column_glob(glob: str) -> None:
    """A glob over `schema.table.column`: three parts, or a `*` that may span them."""
    if not _GLOB.fullmatch(glob) or (glob.count(".") < 2 and "*" not in glob):
        raise ValidationError(f"{glob!r} is not a column glob, expected the form schema.table.column")


def validate_connection_glob(glob: str) -> None:
    if not _GLOB.fullmatch(glob):
        raise ValidationError(f"{glob!r} is not a connection glob, expected a name or a pattern without spaces")


class DataClass(models.Model):
    """A kind of sensitive data, e.g. `ssn`, with the paragraph that makes it so."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_label])
    title = models.CharField(max_length=120, blank=True)
    source = models.CharField(max_length=120, blank=True, help_text="e.g. 45 CFR 164.514(b)(2)(i)(G)")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "data classes"

    def __str__(self) -> str:
        return self.name


class ColumnTag(models.Model):
    """A column, or a glob of columns, known to hold a data class. Only confirmed and inherited tags mask."""

    class Source(models.TextChoices):
        PROPOSED = "proposed", "proposed by discovery"
        CONFIRMED = "confirmed", "confirmed by a person"
        INHERITED = "inherited", "inherited from the columns a relation was made from"
        DISMISSED = "dismissed", "looked at by a person, who found that it holds no such thing"

    connection = models.CharField(max_length=63, help_text="name of the connection")
    column = models.CharField(max_length=255, validators=[validate_column_glob], help_text="schema.table.column")
    data_class = models.ForeignKey(DataClass, on_delete=models.PROTECT, related_name="tags")
    source = models.CharField(max_length=20, choices=Source, default=Source.PROPOSED)
    evidence = models.CharField(max_length=255, blank=True, help_text="why it was proposed; never a value")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["connection", "column"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "column", "data_class"], name="tag_once_per_connection_column_and_class"
            )
        ]

    def __str__(self) -> str:
        return f"{self.connection}: {self.column} is {self.data_class_id and self.data_class.name}"


class MaskingRule(models.Model):
    """What happens to the values of some columns. The first matching rule, lowest priority number first, wins."""

    name = models.CharField(max_length=63, unique=True, validators=[validate_label])
    connections = ArrayField(
        models.CharField(max_length=120, validators=[validate_connection_glob]),
        help_text="globs over connection names, separated by commas",
    )
    columns = ArrayField(
        models.CharField(max_length=255, validators=[validate_column_glob]),
        blank=True,
        default=list,
        help_text="globs over schema.table.column; columns tagged with the data class are covered as well",
    )
    technique = models.CharField(max_length=20, choices=[(item.value, item.value) for item in Technique])
    inference = models.CharField(
        max_length=20,
        choices=[(item.value, item.value) for item in Inference],
        default=Inference.GUARDED.value,
        help_text="what conditions on these columns may do: anything, joins and ordering, or nothing",
    )
    exempt_groups = ArrayField(
        models.CharField(max_length=150), blank=True, default=list, help_text="groups that see these values in clear"
    )
    data_class = models.CharField(max_length=63, blank=True, validators=[validate_label])
    keep = models.PositiveSmallIntegerField(
        default=4, validators=[MaxValueValidator(16)], help_text="characters that `partial` leaves, at most half"
    )
    priority = models.PositiveIntegerField(default=100, help_text="lower comes first")

    class Meta:
        ordering = ["priority", "name"]
        constraints = [
            models.CheckConstraint(
                name="masking_rule_technique_known",
                condition=models.Q(technique__in=[item.value for item in Technique]),
            ),
            models.CheckConstraint(
                name="masking_rule_inference_known",
                condition=models.Q(inference__in=[item.value for item in Inference]),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not self.connections:
            raise ValidationError({"connections": "expected at least one connection or pattern"})
        if not self.columns and not self.data_class:
            raise ValidationError(
                {"columns": "expected at least one column, or a data class whose tagged columns count"}
            )
        if any(not group.strip() for group in self.exempt_groups):
            raise ValidationError({"exempt_groups": "expected group names, got an empty one"})
