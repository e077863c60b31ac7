"""Keep what discovery proposes, for a person to confirm or dismiss. Neither a proposed nor a dismissed tag masks."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from masking.domain.discovery import Proposal
from masking.domain.hooks import rules_changed
from masking.domain.inherit import Inherited
from masking.domain.rules import exactly
from masking.models import ColumnTag, DataClass

_MASKING = (ColumnTag.Source.CONFIRMED, ColumnTag.Source.INHERITED)


@transaction.atomic
def save_proposals(*, connection: str, proposals: Iterable[Proposal]) -> int:
    """Return how many tags are new. What a person confirmed, or was proposed before, stays as it is."""
    created = 0
    for proposal in proposals:
        data_class, _ = DataClass.objects.get_or_create(name=proposal.data_class)
        _tag, new = ColumnTag.objects.get_or_create(
            connection=connection,
            column=proposal.column,
            data_class=data_class,
            defaults={"source": ColumnTag.Source.PROPOSED, "evidence": proposal.evidence},
        )
        created += new
    return created


@transaction.atomic
def save_inherited(*, connection: str, inherited: Iterable[Inherited], evidence: str) -> int:
    """Have columns inherit what a statement is about to put into them; returns how many tags mask that did not before.

    What a person dismissed before counts no more: now it does hold such values. What was confirmed stays confirmed.
    """
    changed = 0
    for each in inherited:
        data_class, _ = DataClass.objects.get_or_create(name=each.data_class)
        tag, new = ColumnTag.objects.get_or_create(
            connection=connection,
            column=exactly(str(each.column)),
            data_class=data_class,
            defaults={"source": ColumnTag.Source.INHERITED, "evidence": evidence},
        )
        if not new and tag.source not in _MASKING:
            tag.source, tag.evidence = ColumnTag.Source.INHERITED, evidence
            tag.save(update_fields=["source", "evidence"])
            new = True
        changed += new
    if changed:
        rules_changed()
    return changed


def dismiss_column(*, connection: str, column: str, data_class: str, evidence: str) -> ColumnTag:
    """Keep that a person looked and found that the column holds no such data. A confirmed tag stays confirmed."""
    tag, new = ColumnTag.objects.get_or_create(
        connection=connection,
        column=column,
        data_class=DataClass.objects.get_or_create(name=data_class)[0],
        defaults={"source": ColumnTag.Source.DISMISSED, "evidence": evidence},
    )
    if not new and tag.source == ColumnTag.Source.PROPOSED:
        tag.source = ColumnTag.Source.DISMISSED
        tag.save(update_fields=["source"])
    return tag


def dismissed_columns(connection: str) -> set[str]:
    rows = ColumnTag.objects.filter(connection=connection, source=ColumnTag.Source.DISMISSED)
    return set(rows.values_list("column", flat=True))


def confirmed_classes(connection: str) -> dict[str, str]:
    """Column (or glob) → data class, of the tags a person confirmed and those that were inherited."""
    rows = ColumnTag.objects.filter(connection=connection, source__in=_MASKING)
    return dict(rows.values_list("column", "data_class__name"))
