"""GoogleSQL's lexical structure, as far as finding where things begin and end ("Lexical structure and syntax").

Linear, in the manner of `analysis.lexer`, whose tokens it shares. Differences to PostgreSQL's that matter: `#` begins a
comment, comments do not nest, both quotes are strings and may be tripled, prefixed with r and b, and escaped with a
backslash; names are quoted with backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlglot import tokenize as sqlglot_tokens
from sqlglot.errors import SqlglotError

from analysis.lexer import MAX_TEXT, MAX_TOKENS, LexError, Token, TokenKind, word

_STRING = (
    r"(?:[rR][bB]|[bB][rR]|[rR]|[bB])?"
    r"(?:'''(?:[^\\']|\\.|'(?!''))*'''|\"\"\"(?:[^\\\"]|\\.|\"(?!\"\"))*\"\"\""
    r"|'(?!'')(?:[^'\\\n\r]|\\[^\n\r])*'|''(?!')|\"(?!\"\")(?:[^\"\\\n\r]|\\[^\n\r])*\"|\"\"(?!\"))"
)
_LEXEME = re.compile(
    rf"""
    (?P<blank>[\s\u200b\ufeff]+|--[^\n\r]*|\#[^\n\r]*|/\*(?:[^*]|\*(?!/))*\*/)
    |(?P<string>{_STRING})
    |(?P<quoted>`(?:[^`\\\n\r]|\\[^\n\r])+`)
    |(?P<param>@@?[A-Za-z_][A-Za-z0-9_]*|@@?`[^`]+`|\?)
    |(?P<number>0[xX][0-9A-Fa-f]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<punct>[,()\[\].;:])
    |(?P<operator>\|\||\|>|<<|>>|<=|>=|<>|!=|=>|->|[-+*/<>=!&|^~{{}}@%$])
    """,
    re.DOTALL | re.VERBOSE,
)
_KINDS = {kind.value: kind for kind in TokenKind}


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text` without blanks and comments. Raises LexError on anything that is none."""
    if len(text) > MAX_TEXT:
        raise LexError(f"{len(text)} characters, expected no more than {MAX_TEXT}")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _LEXEME.match(text, at)
        if match is None:
            raise LexError(f"no token at character {at + 1}")
        group = match.lastgroup or ""
        if group != "blank":
            found = word(match.group(), at) if group == "word" else Token(_KINDS[group], match.group(), at)
            tokens.append(found)
            if len(tokens) > MAX_TOKENS:
                raise LexError(f"more than {MAX_TOKENS} tokens")
        at = match.end()
    return tokens


def same_tokens(text: str, tokens: list[Token]) -> bool:
    """Whether sqlglot cuts `text` at the same places: no string of one reading may be code of the other."""
    try:
        theirs = sqlglot_tokens(text, read="bigquery")
    except SqlglotError:
        return False
    spans = {(token.start, token.end + 1) for token in theirs}
    literal = (TokenKind.STRING, TokenKind.QUOTED)
    if any((token.start, token.end) not in spans for token in tokens if token.kind in literal):
        return False
    ours = _characters(text, ((token.start, token.end) for token in tokens))
    # Its keywords may hold blanks (GROUP BY), never anything else that is none of our tokens.
    return all(
        mine == their or (their and char in " \t\r\n")
        for mine, their, char in zip(ours, _characters(text, spans), text, strict=True)
    )


def _characters(text: str, spans: Iterable[tuple[int, int]]) -> bytes:
    """Which characters belong to any token: comments and blanks do not. (sqlglot drops the 0x of a number.)"""
    covered = bytearray(len(text))
    for start, end in spans:
        begin = start - 2 if text[start - 2 : start].lower() == "0x" else start
        covered[begin:end] = b"\x01" * (end - begin)
    return bytes(covered)


def called_names(tokens: list[Token]) -> frozenset[str]:
    """Every name that stands before a parenthesis, dotted, in lower case: a superset of the functions called."""
    found: set[str] = set()
    for index, token in enumerate(tokens[:-1]):
        if tokens[index + 1].text == "(" and token.kind in (TokenKind.WORD, TokenKind.QUOTED):
            found.add(".".join(_dotted(tokens, index)).lower())
    return frozenset(found)


def _dotted(tokens: list[Token], index: int) -> list[str]:
    parts = [tokens[index].text.strip("`")]
    while index >= 2 and tokens[index - 1].text == "." and tokens[index - 2].kind in (TokenKind.WORD, TokenKind.QUOTED):
        index -= 2
        parts.insert(0, tokens[index].text.strip("`"))
    return parts
