"""Technique `null`: every value becomes SQL NULL, which every type and driver accepts."""

from __future__ import annotations

from masking.engines.types import MaskOptions, MaskValue, Target


def compile_null(target: Target, options: MaskOptions) -> MaskValue:
    return to_null


def to_null(value: bytes | None) -> bytes | None:
    return None
