"""User-defined functions: SQL bodies are followed with their arguments, everything else is opaque.

A body sees nothing but its arguments and the tables it names in full, so it is read in a scope of its own. What a
temporary function asks is the client's own question; a stored one's predicates count as well, since nobody reviewed
them for this purpose.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from analysis.bigquery.dryrun import Routine
from analysis.bigquery.expressions import value
from analysis.bigquery.functions import BUILTIN, KEYWORDS, NOT_CALLS, OUTWARD, PREFIXES
from analysis.bigquery.lexer import called_names, same_tokens, tokenize
from analysis.bigquery.names import NameProblem, path_of
from analysis.bigquery.reading import LocalFunction, Reading, Scope
from analysis.lexer import LexError, Token, TokenKind
from analysis.parse import MAX_DEPTH, depth_of
from analysis.scope import Value, derived

PARSE_ERRORS = (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, IndexError, KeyError)


def call(reading: Reading, name: list[str], arguments: list[Value]) -> Value:
    """Return what a user's function makes of `arguments`; opaque ones make it a derivation nobody vouches for."""
    found = _definition(reading, name)
    if found is None or found.body is None or len(found.arguments) != len(arguments):
        reading.opaque.add(".".join(name))
        reading.problem(f"calls {'.'.join(name)}, whose code nobody has classified")
        result = derived(arguments)
        if not arguments:
            reading.problem("a function without arguments whose result has no known origin")
        return result
    tree = found.body if isinstance(found.body, exp.Expr) else parse_expression(reading, found.body)
    if tree is None:
        return derived(arguments)
    with reading.deeper():
        return _inside(reading, tree, dict(zip(found.arguments, arguments, strict=True)), local=len(name) == 1)


def _definition(reading: Reading, name: list[str]) -> LocalFunction | None:
    if len(name) == 1:
        return reading.local_functions.get(name[0].lower())
    try:
        routine = reading.definitions.routines.get(path_of(".".join(name), reading.defaults))
    except NameProblem:
        return None
    return None if routine is None else local_function(routine)


def local_function(routine: Routine) -> LocalFunction:
    followed = routine.kind == "SCALAR_FUNCTION" and routine.language == "SQL" and routine.body
    return LocalFunction(tuple(a.lower() for a in routine.arguments), routine.body if followed else None)


def _inside(reading: Reading, tree: exp.Expr, bound: dict[str, Value], *, local: bool) -> Value:
    """The value of a function's body: its own names only; a stored one knows no default dataset."""
    variables, defaults, borrows = reading.variables, reading.defaults, reading.borrows
    reading.variables = bound
    if not local:
        reading.defaults = replace(defaults, dataset="", dataset_project="")
    try:
        return value(reading, Scope(), tree)
    finally:
        reading.variables, reading.defaults, reading.borrows = variables, defaults, borrows


def parse_expression(reading: Reading, body: str) -> exp.Expr | None:
    """Parse an expression that stands somewhere in a definition; None, with a problem noted, when it cannot be read."""
    tree = parse_checked(reading, f"SELECT ({body}\n)")
    if isinstance(tree, exp.Select) and len(tree.expressions) == 1 and tree.args.get("from_") is None:
        found = tree.expressions[0]
        return found if isinstance(found, exp.Expr) else None
    reading.problem("an expression that cannot be read")
    return None


def is_free_name(name: str) -> bool:
    """Whether sqlglot knows no function of this name: else it would read a call of the user's as another's."""
    if not name.isidentifier() or not name.isascii():
        return False
    try:
        trees = parse(f"SELECT {name}(a)", read="bigquery")
    except PARSE_ERRORS:
        return False
    return isinstance(trees[0], exp.Select) and isinstance(trees[0].expressions[0], exp.Anonymous)


def parse_checked(reading: Reading, text: str) -> exp.Expr | None:
    """Parse one statement whose tokens both lexers agree on, and whose functions are all known by name."""
    try:
        tokens = tokenize(text)
    except LexError:
        reading.problem("text that cannot be cut into tokens")
        return None
    names = called_names(tokens)
    _judge_prefixes(reading, names)
    _judge_quoted(reading, tokens)
    if depth_of(tokens) > MAX_DEPTH or not same_tokens(text, tokens):
        reading.problem("nested too deeply, or two readings disagree about where its strings end")
        return None
    if any(token.text == "|>" for token in tokens):
        reading.problem("pipe syntax, which is not followed")
        return None
    try:
        trees = parse(text, read="bigquery")
    except PARSE_ERRORS:
        trees = []
    if len(trees) != 1 or not isinstance(trees[0], exp.Expr) or trees[0].find(exp.Command) is not None:
        reading.problem("not understood by the first reading")
        return None
    _judge_calls(reading, names, trees[0])
    _judge_names(reading, tokens, trees[0])
    _judge_aliases(reading, trees[0])
    return trees[0]


def _judge_prefixes(reading: Reading, names: frozenset[str]) -> None:
    """What reaches beyond tables is named before anything is understood."""
    for name in names:
        prefix, _, last = name.rpartition(".")
        if last in OUTWARD or (
            prefix in PREFIXES and name not in BUILTIN and not (prefix == "safe" and last in BUILTIN)
        ):
            reading.dangerous.add(name)
            reading.problem(f"calls {name}, which is not known to depend on its arguments alone")


def _judge_names(reading: Reading, tokens: list[Token], tree: exp.Expr) -> None:
    """Every name of a known column that stands in the text must stand in the tree: no clause was passed over."""
    met = Counter(part for found in tree.find_all(exp.Identifier) for part in str(found.this).lower().split("."))
    met += Counter(str(found.name).lower() for found in tree.find_all(exp.Var))
    after = [*(token.text for token in tokens[1:]), ""]
    kinds = (TokenKind.WORD, TokenKind.QUOTED)
    names = (
        t.text.strip("`").lower() for t, then in zip(tokens, after, strict=True) if t.kind in kinds and then != "("
    )
    named = Counter(part for name in names for part in name.split("."))
    known = reading.definitions.field_names - KEYWORDS
    if any(count > met[name] for name, count in named.items() if name in known):
        reading.problem("a column's name that the first reading did not meet")


def _judge_quoted(reading: Reading, tokens: list[Token]) -> None:
    """Names are compared without case, which the service and Python may do differently outside ASCII (U+212A is K)."""
    for token in tokens:
        if token.kind is not TokenKind.QUOTED:
            continue
        if "\\" in token.text:
            reading.problem("a quoted name with an escape")
        if token.text.lower() != token.text.encode().lower().decode():
            reading.problem("a name whose case nobody here compares as the service does")


def _judge_aliases(reading: Reading, tree: exp.Expr) -> None:
    """A dot inside a name: `a.b` may be the CTE of that name or the table b of the dataset a."""
    for alias in tree.find_all(exp.TableAlias):
        if "." in alias.name or any("." in part.name for part in alias.columns):
            reading.problem("an alias with a dot in it")


def _judge_calls(reading: Reading, names: frozenset[str], tree: exp.Expr) -> None:
    """Names are judged as they are written, since sqlglot may take an unknown one for another dialect's function."""
    plain = frozenset(_plain_names(tree))
    reading.functions |= names & BUILTIN
    for name in names - NOT_CALLS - BUILTIN:
        prefix = name.rpartition(".")[0]
        if not prefix and name not in reading.local_functions and name not in plain and name not in OUTWARD:
            reading.opaque.add(name)
            reading.problem("calls a function that is not known")


def _plain_names(tree: exp.Expr) -> set[str]:
    """Names that stand before a parenthesis without being called: a table's column list, a CTE's, an alias's."""
    found = {table.name.lower() for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Identifier)}
    return found | {alias.name.lower() for alias in tree.find_all(exp.TableAlias)}
