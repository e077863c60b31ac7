"""The techniques by name, compiled once per result column."""

from __future__ import annotations

from collections.abc import Callable

from masking.engines.compiled import compiled
from masking.engines.hash import compile_hash
from masking.engines.null import compile_null
from masking.engines.partial import compile_partial
from masking.engines.redact import compile_redact
from masking.engines.types import MaskOptions, MaskValue, Target
from masking.engines.whole import compile_whole
from masking.engines.year import compile_year
from masking.engines.zip3 import compile_zip3

CompileMask = Callable[[Target, MaskOptions], MaskValue]

TECHNIQUES: dict[str, CompileMask] = {
    "redact": compile_redact,
    "null": compile_null,
    "partial": compile_partial,
    "hash": compile_hash,
    "year": compile_year,
    "zip3": compile_zip3,
    "whole": compile_whole,
}


def compile_mask(technique: str, *, target: Target, options: MaskOptions) -> MaskValue:
    """Return the mask of one result column. An unknown technique masks whole: rules may be newer than a process."""
    mask = TECHNIQUES.get(technique, compile_whole)(target, options)
    return compiled(mask, technique, target=target, options=options)
