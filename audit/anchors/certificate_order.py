"""The certificates of a time stamp in the order DER asks for. Pure.

RFC 5652 §5.1 has a token's certificates as a SET OF, which DER sorts by its elements' bytes (X.690 §11.6). `openssl ts`
with a chain (`certs`) sends them as its file has them, and a strict reader refuses the whole token. No signature covers
that field, so its elements may be put in order, and no length changes by it.
"""

from __future__ import annotations

from itertools import pairwise

_SEQUENCE, _CERTIFICATES = 0x30, 0xA0
# From the response down: its token, the [0] of a ContentInfo, SignedData. Each is (which element, expected tag).
_WAY_DOWN = ((0, _SEQUENCE), (1, _SEQUENCE), (1, 0xA0), (0, _SEQUENCE))


def in_order(response: bytes) -> bytes:
    """Return the response with its certificates sorted; as it came where it has none, or is not of this shape."""
    try:
        start, end = 0, len(response)
        for which, tag in _WAY_DOWN:
            at, end = _elements(response, start, end)[which]
            start = _length(response, at)[0] if response[at] == tag else end
        (at, end), *_ = (place for place in _elements(response, start, end) if response[place[0]] == _CERTIFICATES)
        start = _length(response, at)[0]
        certificates = sorted(response[at:until] for at, until in _elements(response, start, end))
    except (IndexError, ValueError):
        return response  # whoever reads it says what is wrong with it
    return response[:start] + b"".join(certificates) + response[end:]


def _elements(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Where each element between `start` and `end` begins and ends. Raises ValueError when they do not fill it."""
    places = [start]
    while places[-1] < end:
        places.append(sum(_length(data, places[-1])))
    if places[-1] != end:
        raise ValueError("an element is longer than what holds it")
    return list(pairwise(places))


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the element's content begins, and its length (X.690 §8.1.3: one byte of tag, definite form)."""
    said = data[at + 1]
    size = max(said - 0x80, 0)
    return at + 2 + size, int.from_bytes(data[at + 2 : at + 2 + size]) if said & 0x80 else said
