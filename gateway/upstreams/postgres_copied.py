"""What the NULL of a COPY in text format would ask about the values that are masked.

COPY writes a value that is the chosen word for NULL exactly as it writes NULL (in CSV it quotes the value, in binary
there is no word). Whoever chooses a guess for that word would see which rows hold it, beside whatever masks them, and
keep rows about one subject out of the account of whose were read.
"""

from __future__ import annotations

from analysis.statement import CopyFormat
from gateway.protocols.postgres.copyrows import value_like_null
from masking.domain.field import FieldMask, MaskingPlan
from masking.engines.types import ConstantMask


def asks_by_null(plan: MaskingPlan, form: CopyFormat | None) -> bool:
    """Whether the word for NULL compares with values that the plan masks, or notes as a subject's number."""
    if form is None or form.format != "text":
        return False
    value = value_like_null(delimiter=form.delimiter, null=form.null)
    if value is None:
        return False
    watched = plan.subjects.watched if plan.subjects is not None else ()
    return any(_tells(field, value) for field in plan.fields) or any(one.read(value) is not None for one in watched)


def _tells(field: FieldMask, value: bytes) -> bool:
    mask = field.mask
    if mask is None:
        return False
    if isinstance(mask, ConstantMask):
        shown, keeps_null = mask.constant
        return keeps_null and shown is not None
    return not field.scans_text or mask(value) != value
