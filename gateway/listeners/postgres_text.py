"""What the first word of a statement says about the session, before anything has analysed it.

Used to be careful, never to allow: a word not listed here costs a round trip to the server, nothing else.
"""

from __future__ import annotations

import re

# Statements that cannot change what later statements mean, by themselves (their functions are looked at separately).
QUIET = frozenset(
    [
        *("select", "insert", "update", "delete", "merge", "with", "values", "table", "copy", "explain", "show"),
        *("begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "lock", "checkpoint"),
        *("fetch", "move", "close", "declare", "prepare", "execute", "deallocate", "analyze", "vacuum"),
        *("listen", "unlisten", "notify"),
    ]
)
# Statements that name nothing but relations: they mean the same whatever else is still under way in the pipeline,
# and the server refuses to run a prepared one whose columns have changed ("cached plan must not change result type").
SELF_CONTAINED = frozenset({"select", "insert", "update", "delete", "merge", "with", "values", "table"})

# Transaction control in its plainest words, which name nothing at all.
_PLAIN_CONTROL = re.compile(r"(?i)(?:begin|start(?= transaction)|commit|end|rollback|abort)(?: work| transaction)?\Z")

TRANSACTION_ENDS = frozenset({"commit", "end", "rollback", "abort", "prepare", "release"})


def is_plain_control(text: str) -> bool:
    """Whether it begins or ends the transaction and does nothing else.

    >>> is_plain_control("Commit work"), is_plain_control("commit and chain")
    (True, False)
    """
    return _PLAIN_CONTROL.match(text) is not None


def means_one_thing(text: str) -> bool:
    """Whether the text means the same whenever it is sent to a session whose role, search path and settings are known.

    >>> means_one_thing("COMMIT"), means_one_thing("commit prepared 'x'"), means_one_thing("execute p")
    (True, False, False)
    """
    return first_word(text) in SELF_CONTAINED or is_plain_control(text)


# How nearly every statement begins: the loop below would say the same, five times slower.
_PLAIN_START = re.compile(r"[A-Za-z]+(?=[ \n\t(;*]|\Z)").match
# Megabytes of blanks and comments may stand before the word. No way back into what was passed, so none is remembered.
_SKIPPED = re.compile(r"(?:[\s(]++|--[^\n]*+\n?+|/\*(?:[^*/]++|\*(?!/)|/(?!\*))*+\*/)*+").match
_COMMENT_EDGE = re.compile(r"/\*|\*/").finditer
_LONGEST = 64  # characters: no keyword has so many


def first_word(text: str) -> str:
    """Return the first keyword, lower case, behind white space, comments and opening parentheses; "" when none.

    >>> first_word("/* a /* nested */ b */ -- c\\n (SELECT 1)")
    'select'
    """
    plain = _PLAIN_START(text)
    if plain is not None:
        return plain[0].lower()
    at = _before_word(text, 0)
    while text.startswith("/*", at):  # a comment that holds others, or never ends
        at = _before_word(text, _comment_end(text, at))
    end, most = at, min(len(text), at + _LONGEST)
    while end < most and (text[end].isalpha() or text[end] == "_"):
        end += 1
    return text[at:end].lower()


def _before_word(text: str, at: int) -> int:
    skipped = _SKIPPED(text, at)
    return skipped.end() if skipped is not None else at  # it matches nothing at least


def _comment_end(text: str, at: int) -> int:
    """PostgreSQL nests comments (SQL standard, lexical structure)."""
    depth = 0
    for edge in _COMMENT_EDGE(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
