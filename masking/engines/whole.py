"""Technique `whole`: what an expression over protected data, or an output nobody could resolve, turns into.

Unlike `redact` it is constant over NULL too: whether `nullif(ssn, '…')` is NULL already says what the SSN is. A wire
must therefore call a mask for NULL values as well.
"""

from __future__ import annotations

from masking.engines.redact import constant_for
from masking.engines.types import ConstantMask, MaskOptions, MaskValue, Target


def compile_whole(target: Target, options: MaskOptions) -> MaskValue:
    return ConstantMask(constant_for(target), keeps_null=False)
