"""One spelling for the many ways to write a character, without moving any offset.

Full-width and other compatibility characters, every script's decimal digits, dashes, quotes and spaces become ASCII,
one character for one character, so that a span found in the normal text is the same span in the original. Characters
of no width (soft hyphens, joiners, direction marks) would break every pattern: `visible` removes them and says where
the rest came from.
"""

from __future__ import annotations

import unicodedata

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d\u30fc"
_QUOTES = "\u2018\u2019\u201b\u02bc\uff07\u00b4"
_FIXED = {**dict.fromkeys(_DASHES, "-"), **dict.fromkeys(_QUOTES, "'"), "\u2024": ".", "\u00b7": "."}


def normal_form(text: str) -> str:
    """Return a text of the same length whose look-alike characters are ASCII."""
    if text.isascii():
        return text
    return text.translate({ord(char): _plain(char) for char in set(text) if not char.isascii()})


def _plain(char: str) -> str:
    if char in _FIXED:
        return _FIXED[char]
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(char)
    if category in ("Zs", "Cs"):
        return " "  # a lone surrogate has no UTF-8 form, which the prefilter needs
    compatible = unicodedata.normalize("NFKC", char)
    base = unicodedata.normalize("NFKD", compatible)[:1]
    if base.isascii() and base.isalpha():
        return base  # accented letters too: José is as much a name as Jose
    return compatible if len(compatible) == 1 else char


def visible(text: str) -> tuple[str, list[int] | None]:
    """Return the text without zero-width characters, and each kept character's old index (None: nothing removed)."""
    if text.isascii() or not any(unicodedata.category(char) == "Cf" for char in set(text)):
        return text, None
    kept = [index for index, char in enumerate(text) if unicodedata.category(char) != "Cf"]
    return "".join(text[index] for index in kept), kept
