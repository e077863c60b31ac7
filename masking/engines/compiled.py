"""Which masks have a compiled form: the techniques that compute something of each value, over the usual types.

A compiled form does the values that most values are and asks the mask it stands for about every other one; loops over
rows call it without the interpreter. Where nobody compiled it (`gateway.protocols.postgres.compile`) the masks serve as
they are: same bytes, slower.
"""

from __future__ import annotations

import contextlib

from masking.engines.types import Family, MaskOptions, MaskValue, Target

_is_compiled = False
with contextlib.suppress(ImportError):
    from audit.domain._openssl import Labelled
    from masking.engines._fast import (
        FastBinaryYear,
        FastIntegerToken,
        FastPartial,
        FastScan,
        FastToken,
        FastUuidToken,
        FastYear,
        FastZip3,
    )

    _is_compiled = True

# What the compiled forms have room for.
_LONGEST_KEY, _LONGEST_LABEL, _MOST_KEPT = 64, 252, 64
_KINDS = {Family.TEXT: "text", Family.INTEGER: "integer", Family.UUID: "uuid"}


def compiled(mask: MaskValue, technique: str, *, target: Target, options: MaskOptions) -> MaskValue:
    """Return the compiled form of a technique's mask, or the mask."""
    if not _is_compiled:
        return mask
    if technique == "partial":
        return _partial(mask, target, options)
    if technique == "zip3" and target.family is Family.TEXT:
        return FastZip3(mask)
    if technique == "year":
        return _year(mask, target, options)
    return _token(mask, target, options) if technique == "hash" else mask


def compiled_scan(mask: MaskValue, target: Target) -> MaskValue:
    """Return the compiled form of a mask that searches ordinary values (not free text), or the mask."""
    return FastScan(mask) if _is_compiled and target.family is Family.TEXT else mask


def label_of(data_class: str, kind: str) -> bytes:
    """What a token's digest begins with: no other class or kind shares it (fields are length-prefixed)."""
    parts = (b"hoopweb/token/1", data_class.encode(), kind.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _partial(mask: MaskValue, target: Target, options: MaskOptions) -> MaskValue:
    if target.family is not Family.TEXT or options.keep > _MOST_KEPT:
        return mask
    return FastPartial(mask, keep=max(options.keep, 0), padded=target.blank_padded)


def _year(mask: MaskValue, target: Target, options: MaskOptions) -> MaskValue:
    floor = options.oldest_shown_year
    if not 1 <= floor <= 9999:
        return mask
    width = {Family.DATE: 4, Family.TIMESTAMP: 8}.get(target.family)
    if target.binary and width is not None:
        return FastBinaryYear(mask, floor=floor, width=width) if target.width == width else mask
    return FastYear(mask, floor=floor) if width is not None or target.family is Family.TEXT else mask


def _token(mask: MaskValue, target: Target, options: MaskOptions) -> MaskValue:
    kind = _KINDS.get(target.family)
    if kind is None or not options.key or (target.family is Family.INTEGER and target.width not in (4, 8)):
        return mask
    label = label_of(options.data_class, kind)
    if len(options.key) > _LONGEST_KEY or len(label) > _LONGEST_LABEL:
        return mask
    digests = Labelled(options.key, label)
    if target.family is Family.TEXT:
        return FastToken(mask, digests, padded=target.blank_padded)
    if target.family is Family.INTEGER:
        return FastIntegerToken(mask, digests, binary=target.binary, width=target.width)
    return FastUuidToken(mask, digests, binary=target.binary)
