"""Keep what discovery proposes, for a person to confirm. A proposed tag masks nothing."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from masking.domain.discovery import Proposal
from masking.models import ColumnTag, DataClass


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
