"""PostgreSQL's lexer, as far as finding where things begin and end (src/backend/parser/scan.l).

Linear in the text: one compiled alternation is tried at each position and every alternative is free of nested
repetition over the same characters. Bytes above 0x7F are identifier characters, whatever Unicode thinks of them, and
only the six ASCII blanks separate tokens. What cannot be lexed raises `LexError`: the server would refuse it too.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

MAX_TEXT = 8 * 1024 * 1024  # beyond this nobody can review a statement either
MAX_TOKENS = 100_000
# PostgreSQL's scanner looks at a whole run of operator characters for every comment that begins in it (scan.l,
# `xcstart`): a megabyte of them takes it minutes, in which nothing interrupts it.
MAX_COMMENTS_IN_A_RUN = 100
# Every stage asks for the tokens of one and the same text. Those of a long one may take some 20 MB, whoever sent it:
# so of the long ones only the last is kept, which every stage of it finds unless another one came between.
_KEPT, _KEPT_TEXT, _KEPT_LONG = 64, 16_384, 1


class LexError(ValueError):
    """The text has no token sequence: unterminated quote or comment, NUL, or beyond the bounds."""


class TokenKind(Enum):
    WORD = "word"  # unquoted identifier or keyword
    QUOTED = "quoted"  # "identifier" or U&"identifier"
    STRING = "string"
    NUMBER = "number"
    PARAM = "param"
    OPERATOR = "operator"
    PUNCT = "punct"  # one of , ( ) [ ] . ; :


class Token(NamedTuple):
    kind: TokenKind
    text: str
    start: int
    word: str = ""  # the keyword in upper case, '' for anything but an unquoted word

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def word(text: str, start: int) -> Token:
    """The token of an unquoted identifier or keyword."""
    # Multibyte encodings fold ASCII only (src/backend/parser/scansup.c).
    return Token(TokenKind.WORD, text, start, text.upper() if text.isascii() else text)


_BLANK = r"[ \t\n\r\f\v]+"
_LINE_COMMENT = r"--[^\n\r]*"
# A quoted literal goes on after white space that holds a newline (scan.l `quotecontinue`), in the mode it began in.
CONTINUE = r"(?:[ \t\f\v]|--[^\n\r]*(?=[\n\r]))*[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'"
# Never a shorter match than the server's: a quote that goes on must be lexed to its end or not at all.
_ENDS = rf"(?!'|{CONTINUE})"
_PLAIN = rf"'[^']*'(?:(?:{CONTINUE}|')[^']*')*{_ENDS}"
_ESCAPED = rf"'(?:[^'\\]|\\.|'')*'(?:{CONTINUE}(?:[^'\\]|\\.|'')*')*{_ENDS}"
_IDENT = r"(?![eEbBxXnN]'|[uU]&['\"])[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*"
_NUMBER = (
    r"0[xX](?:_?[0-9A-Fa-f])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    r"|(?:[0-9](?:_?[0-9])*(?:\.(?!\.)(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)


def _compile(plain: str) -> re.Pattern[str]:
    alternatives = {
        "blank": _BLANK,
        "line": _LINE_COMMENT,
        "block": r"/\*",
        "estring": rf"[eE]{_ESCAPED}",
        "unicode": rf"[uU]&{_PLAIN}",
        "bits": rf"[bBxX]{_PLAIN}",
        "nstring": rf"[nN]{plain}",
        "string": plain,
        "quoted": r'(?:[uU]&)?"(?:[^"]|"")+"',
        "word": _IDENT,
        "param": r"\$[0-9]+",
        "dollar": r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$",
        "number": _NUMBER,
        "cast": r"::",
        "punct": r"[,()\[\].;:]",
        # Operators end where a comment begins (scan.l truncates at the first -- or /*).
        "operator": r"(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?])+",
    }
    return re.compile("|".join(f"(?P<{name}>{body})" for name, body in alternatives.items()), re.DOTALL)


_STANDARD = _compile(_PLAIN)
_BACKSLASH = _compile(_ESCAPED)  # standard_conforming_strings = off
_OPERATOR_CHARACTERS = re.compile(r"[-~!@#^&|`?+*/%<>=]+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_KINDS = {
    "estring": TokenKind.STRING,
    "unicode": TokenKind.STRING,
    "bits": TokenKind.STRING,
    "nstring": TokenKind.STRING,
    "string": TokenKind.STRING,
    "quoted": TokenKind.QUOTED,
    "param": TokenKind.PARAM,
    "number": TokenKind.NUMBER,
    "cast": TokenKind.OPERATOR,
    "punct": TokenKind.PUNCT,
    "operator": TokenKind.OPERATOR,
}


def tokenize(text: str, *, standard_conforming_strings: bool = True) -> list[Token]:
    """Return the tokens of `text` without blanks and comments. Raises LexError."""
    read = _remembered if len(text) <= _KEPT_TEXT else _remembered_long
    return list(read(text, standard_conforming_strings))


def _tokens(text: str, standard_conforming_strings: bool) -> tuple[Token, ...]:
    _must_be_within_bounds(text)
    tokens: list[Token] = []
    read_tokens(text, standard_conforming_strings, tokens, MAX_TOKENS, read_lexeme)
    if len(tokens) > MAX_TOKENS:
        raise LexError(f"more than {MAX_TOKENS} tokens in one text")
    return tuple(tokens)


ReadLexeme = Callable[[str, int, bool, list[Token]], int]


def read_tokens(text: str, standard: bool, tokens: list[Token], most: int, read: ReadLexeme) -> None:
    """Append the tokens of `text`, and stop when there are more than `most`. Raises LexError."""
    at, end = 0, len(text)
    while at < end and len(tokens) <= most:
        at = read(text, at, standard, tokens)


def read_lexeme(text: str, at: int, standard: bool, tokens: list[Token]) -> int:
    """Append the token at `at`, unless blanks or a comment begin there, and return where it ends. Raises LexError."""
    match = (_STANDARD if standard else _BACKSLASH).match(text, at)
    if match is None:
        raise LexError("an unterminated quote or a character outside PostgreSQL's syntax")
    group = match.lastgroup
    if group == "word":
        tokens.append(word(match[0], at))
    elif group == "block":
        return _end_of_comment(text, at)
    elif group == "dollar":
        stop = text.find(match.group(), match.end())
        if stop < 0:
            raise LexError("an unterminated dollar-quoted string")
        stop += match.end() - at
        tokens.append(Token(TokenKind.STRING, text[at:stop], at))
        return stop
    elif group in _KINDS:
        tokens.append(Token(_KINDS[group], match[0], at))
    return match.end()


def _must_be_within_bounds(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise LexError(f"statement of {len(text)} characters, expected no more than {MAX_TEXT}")
    if "\x00" in text:
        raise LexError("a NUL character in the statement")
    if text.count("/*") <= MAX_COMMENTS_IN_A_RUN:
        return
    if any(run[0].count("/*") > MAX_COMMENTS_IN_A_RUN for run in _OPERATOR_CHARACTERS.finditer(text)):
        raise LexError(f"more than {MAX_COMMENTS_IN_A_RUN} comments with nothing but operators between them")


_remembered = lru_cache(maxsize=_KEPT)(_tokens)
_remembered_long = lru_cache(maxsize=_KEPT_LONG)(_tokens)


def _end_of_comment(text: str, at: int) -> int:
    """Comments nest (SQL:1999), unlike C's."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise LexError("an unterminated comment")


def identifier(token: Token) -> str:
    """The name a WORD or QUOTED token denotes, folded and cut as PostgreSQL does (63 bytes)."""
    if token.kind is TokenKind.QUOTED:
        if token.text[0] != '"':
            raise LexError("identifiers with Unicode escapes are not read")
        return _truncate(token.text[1:-1].replace('""', '"'))
    return _truncate(_ascii_lower(token.text))


def _truncate(name: str) -> str:
    return name.encode("utf-8", "surrogatepass")[:63].decode("utf-8", "ignore")


def _ascii_lower(text: str) -> str:
    # Multibyte encodings fold ASCII only (src/backend/parser/scansup.c).
    return text.lower() if text.isascii() else re.sub(r"[A-Z]+", lambda m: m.group().lower(), text)


read_tokens_python = read_tokens
with contextlib.suppress(ImportError):  # nobody compiled it: `gateway.protocols.postgres.compile`
    from analysis._lexer import read_tokens
