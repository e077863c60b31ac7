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

TRANSACTION_ENDS = frozenset({"commit", "end", "rollback", "abort", "prepare", "release"})


# How nearly every statement begins: the loop below would say the same, five times slower.
_PLAIN_START = re.compile(r"[A-Za-z]+(?=[ \n\t(;*]|\Z)").match


def first_word(text: str) -> str:
    """Return the first keyword, lower case, behind white space, comments and opening parentheses; "" when none.

    >>> first_word("/* a /* nested */ b */ -- c\\n (SELECT 1)")
    'select'
    """
    plain = _PLAIN_START(text)
    if plain is not None:
        return plain[0].lower()
    at = 0
    while at < len(text):
        if text[at].isspace() or text[at] == "(":
            at += 1
        elif text.startswith("--", at):
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1
        elif text.startswith("/*", at):
            at = _comment_end(text, at)
        else:
            break
    end = at
    while end < len(text) and (text[end].isalpha() or text[end] == "_"):
        end += 1
    return text[at:end].lower()


def _comment_end(text: str, at: int) -> int:
    """PostgreSQL nests comments (SQL standard, lexical structure)."""
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if depth == 0:
                return at
        else:
            at += 1
    return at
