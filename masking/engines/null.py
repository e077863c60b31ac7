"""Technique `null`: every value becomes SQL NULL, which every type and driver accepts."""

from __future__ import annotations

from masking.engines.types import ConstantMask, MaskOptions, MaskValue, Target


def compile_null(target: Target, options: MaskOptions) -> MaskValue:
    return to_null


to_null = ConstantMask(None, keeps_null=True)
