"""Characters that are not seen, or that reorder what is, as visible marks with their code point. Pure.

Names, statements and clients' own words are chosen by whoever sends them: a page that tells them must not be turned
around by a bidirectional override, nor hide a part of them. Trojan Source, CVE-2021-42574, is the attack meant.
"""

from __future__ import annotations

import json
import unicodedata
from functools import lru_cache

# Letters by category, blank to the eye: Hangul fillers, and the empty Braille pattern.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


@lru_cache(maxsize=4096)
def is_hidden(character: str) -> bool:
    """Whether it is a control, format (bidirectional, zero-width), combining or odd space character."""
    if character.isascii():
        return not character.isprintable()
    return unicodedata.category(character)[0] in "CMZ" or character in _BLANK_LETTERS


def hidden_in(name: str) -> str:
    """The marks of what is hidden in a name, told one by one; "" for a name that is plainly what it looks like."""
    return ", ".join(sorted({mark(character) for character in name if character != " " and is_hidden(character)}))


def mark(character: str) -> str:
    return "⇥" if character == "\t" else f"⟨U+{ord(character):04X}⟩"


def visible(text: str) -> str:
    """A name on one line, as plain text: whatever hides, reorders or breaks the line is a mark."""
    return text if text.isascii() and text.isprintable() else "".join(mark(c) if is_hidden(c) else c for c in text)


def visible_text(text: str) -> str:
    """The same of a text that may have lines."""
    return "\n".join(map(visible, text.split("\n")))


def escaped_json(text: str) -> str:
    """JSON in which hidden characters stand as JSON escapes, so that it is still the same document."""
    hidden = {c for c in text if is_hidden(c) and c != "\n"}
    return text.translate({ord(c): json.dumps(c)[1:-1] for c in hidden})
