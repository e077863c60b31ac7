"""The first reading: sqlglot's, of the client's own text. It says which tables are named and which verbs are used.

It is compared with the database's reading and never trusted alone; its purpose is to disagree when the two texts do
not mean the same.
"""

from __future__ import annotations

import logging
import re
import threading
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlglot import TokenType, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from analysis.lexer import Token, TokenKind
from analysis.making import quickly_made

# sqlglot warns with the text it did not understand; statements never enter application logs.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)


class _Turn:
    """Equal to nothing. Who looks a kind of token up among these runs Python, and with it whoever waits for a turn."""

    def __init__(self, kind: TokenType) -> None:
        self._hash = hash(kind)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return False


class PostgresInTurns(Postgres):
    """The same dialect. Tokenizer and parser are compiled, and would let no other thread run before they are through.

    Each token's kind is looked up among the commands, and at every expression the setting below is asked for.
    """

    class Tokenizer(Postgres.Tokenizer):
        COMMANDS: ClassVar[set[Any]] = {
            *Postgres.Tokenizer.COMMANDS,
            *(_Turn(kind) for kind in TokenType if kind not in Postgres.Tokenizer.COMMANDS),
        }

    @property
    def DPIPE_IS_STRING_CONCAT(self) -> bool:  # type: ignore[override]
        return bool(Postgres.DPIPE_IS_STRING_CONCAT)


_POSTGRES = PostgresInTurns()
MAX_DEPTH = 100  # parentheses, brackets and prefix operators; a compiled parser has no recursion limit of its own
_PREFIXES = frozenset({"NOT", "-", "+", "~", "@"})
_VERBS: dict[type[exp.Expr], str] = {
    exp.Insert: "INSERT",
    exp.Update: "UPDATE",
    exp.Delete: "DELETE",
    exp.Merge: "MERGE",
}


@quickly_made
@dataclass(frozen=True, slots=True)
class ClientReading:
    """`tables` are names without schema; `ctes` the names a WITH gives; `verbs` the writes anywhere in the text."""

    understood: bool
    problem: str = ""
    tables: frozenset[str] = frozenset()
    ctes: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    outputs: int | None = None  # number of outputs, None where a star or a write leaves it open


def read_client(text: str, tokens: list[Token]) -> ClientReading:
    """Read `text` with sqlglot. Never raises: what it cannot read is not understood."""
    if is_too_deep(tokens):
        return ClientReading(False, "nested too deeply")
    text = _spelled_out(text, tokens)
    try:
        trees = _parse(text)
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return ClientReading(False, "not understood by the first reading")
    if len(trees) != 1 or trees[0] is None or isinstance(trees[0], exp.Command):
        return ClientReading(False, "not understood by the first reading")
    nodes = list(trees[0].walk())
    reading = _summarise(trees[0], nodes)
    for node in nodes:
        node.parent = None  # or the tree waits for the collector, which halts every session to find it
    return reading


class _Kept(threading.local):
    """A thread's own: making them takes a quarter of a short statement's time. Both begin anew with every text."""

    def __init__(self) -> None:
        self.tokenizer, self.parser = _SHORT.tokenizer(), _SHORT.parser()


_SHORT = Postgres()  # a few hundred tokens keep nobody waiting, and need no turns
_KEPT, _KEPT_TEXT = _Kept(), 1_024  # characters: they hold on to what they read last


def _parse(text: str) -> list[exp.Expr | None]:
    if len(text) > _KEPT_TEXT:
        return _POSTGRES.parse(text)
    return _KEPT.parser.parse(_KEPT.tokenizer.tokenize(text), text)


# Keywords sqlglot does not read, none of which names a relation or writes: what to leave out, or put in their place.
_SPELLINGS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("OVERRIDING", "SYSTEM", "VALUE"), 3, ""),
    (("OVERRIDING", "USER", "VALUE"), 3, ""),
    (("WHERE", "CURRENT", "OF"), 4, "WHERE true"),
)
# What a respelling begins with, brackets aside.
_MAY_BE_RESPELLED = frozenset({"TABLE", "AS", "USING", "WITH", "IN", *(words[0] for words, _, _ in _SPELLINGS)})
# A long list of integers names nothing, and sqlglot takes a tenth of a second over some ten thousand of them. Digits,
# commas and blanks open and close nothing, wherever sqlglot believes to be.
_INTEGERS = re.compile(r"\([ \t]*[0-9]+(?:[ \t]*,[ \t]*[0-9]+){100,}+[ \t]*\)")


def _spelled_out(text: str, tokens: list[Token]) -> str:
    """The text as sqlglot can read it, without array bounds, the alias of USING, OLD and NEW's other names …"""
    pieces, at, index = [], 0, 0
    while index < len(tokens):
        token = tokens[index]
        if token.word not in _MAY_BE_RESPELLED and token.text != "[":
            index += 1
            continue
        stop, instead = _shortened(text, tokens, index) if token.word == "IN" else _respelled(tokens, index)
        if stop > index:
            pieces += [text[at : tokens[index].start], instead]
            at = tokens[stop - 1].end
        index = max(stop, index + 1)
    return "".join([*pieces, text[at:]])


def _shortened(text: str, tokens: list[Token], index: int) -> tuple[int, str]:
    """`IN (1, 2, …)` with one integer in place of the many."""
    listed = _INTEGERS.match(text, tokens[index + 1].start) if index + 1 < len(tokens) else None
    if listed is None:
        return index, ""
    return bisect_left(tokens, listed.end(), lo=index, key=lambda token: token.end) + 1, "IN (0)"


def _respelled(tokens: list[Token], index: int) -> tuple[int, str]:  # noqa: PLR0911, one return a spelling
    """The tokens from `index` up to the returned one are spelled differently; none are when it is `index`."""
    token = tokens[index]
    if token.word == "TABLE" and index == 0:
        return 1, "SELECT * FROM"  # sqlglot takes TABLE for an alias; PostgreSQL defines it so
    if token.text == "[" and index > 0 and tokens[index + 1 : index + 2] and tokens[index + 1].text == "]":
        before = tokens[index - 1]  # `x::oid[]`: sqlglot knows arrays of its own types only
        return (index + 2 if before.word != "ARRAY" and before.text != "[" else index), ""
    if token.word == "AS" and index > 0 and tokens[index - 1].text == ")" and _closes_using(tokens, index - 1):
        return index + 2, ""
    if token.word == "USING":
        return _past_sort_operator(tokens, index), ""
    if token.word == "WITH" and index > 0 and tokens[index - 1].word == "RETURNING":
        return _past_parenthesis(tokens, index + 1), ""
    for keywords, length, instead in _SPELLINGS:
        if token.word == keywords[0] and tuple(t.word for t in tokens[index : index + 3]) == keywords:
            return min(index + length, len(tokens)), instead
    return index, ""


def _closes_using(tokens: list[Token], close: int) -> bool:
    """Whether a parenthesis closes `USING (…)`, which holds nothing but names and commas."""
    at = close - 1
    while at > 0 and tokens[at].kind in (TokenKind.WORD, TokenKind.QUOTED) and tokens[at - 1].text == ",":
        at -= 2
    return at > 1 and tokens[at - 1].text == "(" and tokens[at - 2].word == "USING"


def _past_sort_operator(tokens: list[Token], index: int) -> int:
    """The index after `USING >` or `USING OPERATOR(schema.>)` of ORDER BY; `index` itself for the USING of a join."""
    after = tokens[index + 1 : index + 2]
    if after and after[0].kind is TokenKind.OPERATOR:
        return index + 2
    return _past_parenthesis(tokens, index + 2) if after and after[0].word == "OPERATOR" else index


def _past_parenthesis(tokens: list[Token], index: int) -> int:
    while index < len(tokens) and tokens[index].text != ")":
        index += 1
    return min(index + 1, len(tokens))


_DEEPER = {"(": 1, "[": 1, ")": -1, "]": -1, "CASE": 1, "END": -1}


def is_too_deep(tokens: list[Token]) -> bool:
    """Whether `depth_of` is beyond MAX_DEPTH. A few tokens cannot be, unless one of them is a run of operators."""
    if len(tokens) <= MAX_DEPTH and max([len(token.text) for token in tokens], default=0) <= MAX_DEPTH:
        return False
    return depth_of(tokens) > MAX_DEPTH


def depth_of(tokens: list[Token]) -> int:
    """How deep parentheses, brackets, CASE and prefix operators are nested."""
    deepest = depth = prefixes = 0
    for token in tokens:
        said = token.word or token.text
        depth += _DEEPER.get(said, 0)
        prefixes = prefixes + 1 if said in _PREFIXES else 0
        deepest = max(deepest, depth + prefixes)
        if token.kind is TokenKind.OPERATOR and len(token.text) > MAX_DEPTH:
            deepest = MAX_DEPTH + 1
    return deepest


_TELLING: tuple[type[exp.Expr], ...] = (exp.Command, exp.Table, exp.CTE, exp.Star, *_VERBS)
_SILENT: set[type[exp.Expr]] = set()  # kinds of nodes that were met and are none of these


def _summarise(tree: exp.Expr, nodes: list[exp.Expr]) -> ClientReading:
    tables: set[str] = set()
    ctes: set[str] = set()
    verbs: set[str] = set()
    stars = False
    for node in nodes:
        kind = type(node)
        if kind in _SILENT:
            continue
        if not isinstance(node, _TELLING):
            _SILENT.add(kind)
            continue
        if isinstance(node, exp.Command):
            return ClientReading(False, "not understood by the first reading")
        if isinstance(node, exp.Table):
            if isinstance(node.this, exp.Identifier) and node.find_ancestor(exp.Lock) is None:
                tables.add(_name(node.this))
        elif isinstance(node, exp.CTE):
            alias = node.args.get("alias")
            if alias is not None and isinstance(alias.this, exp.Identifier):
                ctes.add(_name(alias.this))
        elif isinstance(node, exp.Star):
            stars = True
        elif kind in _VERBS and node.find_ancestor(exp.When) is None:
            verbs.add(_VERBS[kind])
    return ClientReading(
        understood=True,
        tables=frozenset(tables),
        ctes=frozenset(ctes),
        verbs=frozenset(verbs),
        outputs=_count(tree, stars=stars),
    )


def _name(identifier: exp.Identifier) -> str:
    name = str(identifier.this)
    if name.isascii() and len(name) < 64:  # the rest says the same of it
        return name if identifier.quoted else name.lower()
    folded = name if identifier.quoted else "".join(c.lower() if c.isascii() else c for c in name)
    return folded.encode("utf-8", "surrogatepass")[:63].decode("utf-8", "ignore")


def _count(tree: exp.Expr, *, stars: bool) -> int | None:
    """The number of its outputs. `stars`: whether the tree holds any."""
    while isinstance(tree, (exp.Union, exp.Except, exp.Intersect, exp.Subquery)):
        tree = tree.this
    if not isinstance(tree, exp.Select):
        return None
    expressions = tree.expressions
    if stars and any(node.is_star or node.find(exp.Star) for node in expressions):
        return None
    return len(expressions)
