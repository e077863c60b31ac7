"""The first reading of a whole text: its parts one after the other, variables and temporary objects followed.

Loops and branches are not executed: a variable may hold whatever any part puts into it, so the parts are read again
until nothing new comes in. What a condition tests decides which results appear, hence steers them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlglot import exp

from analysis.bigquery import queries, routines
from analysis.bigquery.dryrun import TablePath
from analysis.bigquery.expressions import condition, value
from analysis.bigquery.lexer import tokenize
from analysis.bigquery.names import Defaults, Definitions, NameProblem, path_of, resolve, row_of
from analysis.bigquery.reading import Reading, Rows, Scope, TooDeep
from analysis.bigquery.routines import PARSE_ERRORS, parse_checked, parse_expression
from analysis.bigquery.script import Piece, PieceKind, Script, Unsplittable, split_script
from analysis.bigquery.statements import Act, read_statement, unknown_act
from analysis.lexer import LexError
from analysis.scope import NOTHING, Value, derived, merged
from analysis.statement import Operation, PredicateUse

MAX_ROUNDS = 10
# Names of functions are not in the tree where sqlglot knows the function: only dotted ones are of interest.
_TEMPORARY_FUNCTION = re.compile(r"create\s+(?:or\s+replace\s+)?temp(?:orary)?\s+function\b", re.IGNORECASE)

# "Switching SQL dialects": a query prefix in a comment, which counts more than the request's own `useLegacySql`.
_LEGACY = re.compile(r"^\s*#\s*legacysql\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PartReading:
    """One statement of the text: what it does, what it refers to, and the text that can be asked about by itself."""

    act: Act
    tables: frozenset[TablePath]
    beneath: frozenset[TablePath]
    written: frozenset[TablePath]
    probe: str | None  # for the dry run; None where only the script around it gives it a meaning
    needs_probe: bool = True
    calls_local: bool = False  # the probe begins with temporary functions


@dataclass(frozen=True, slots=True)
class TextReading:
    parts: tuple[PartReading, ...]
    reading: Reading
    branches: bool = False
    names: frozenset[str] = field(default_factory=frozenset)  # every name the trees hold, in lower case


@dataclass(slots=True)
class Needed:
    """Everything a text names that has to be described before it can be read."""

    tables: set[TablePath] = field(default_factory=set)
    routines: set[TablePath] = field(default_factory=set)


def new_reading(definitions: Definitions, defaults: Defaults) -> Reading:
    reading = Reading(definitions, defaults)
    reading.rows_of = lambda node, scope: queries.rows_of(reading, node, scope)
    reading.call = lambda name, arguments: routines.call(reading, name, arguments)
    return reading


def needed(text: str, defaults: Defaults) -> Needed:
    """Return the tables and routines `text` names, as far as it can be cut and parsed. Never raises."""
    found = Needed()
    scratch = new_reading(Definitions(defaults.project), defaults)
    try:
        pieces = split_script(text, tokenize(text)).pieces
    except (LexError, Unsplittable):
        return found
    for piece in pieces:
        tree = _parse_piece(scratch, piece)
        if tree is not None:
            _collect(tree, defaults, found)
    return found


def _collect(tree: exp.Expr, defaults: Defaults, found: Needed) -> None:
    for table in tree.find_all(exp.Table):
        try:
            found.tables.add(resolve(table, defaults))
        except NameProblem:
            continue  # the reading itself says so
    for name in _routine_names(tree):
        try:
            found.routines.add(path_of(name, defaults))
        except NameProblem:
            continue


def _routine_names(tree: exp.Expr) -> set[str]:
    found = {call.name for call in tree.find_all(exp.Anonymous) if "." in call.name}
    for dot in tree.find_all(exp.Dot):
        if isinstance(dot.expression, exp.Func):
            found.add(
                ".".join([p.name for p in dot.flatten() if isinstance(p, exp.Identifier)] + [dot.expression.name])
            )
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def read_text(text: str, definitions: Definitions, defaults: Defaults) -> TextReading:
    """Read `text`. Never raises on bad SQL: what is not understood is a problem of the reading."""
    reading = new_reading(definitions, defaults)
    try:
        script = split_script(text, tokenize(text))
    except (LexError, Unsplittable) as error:
        reading.problem(str(error) if isinstance(error, Unsplittable) else "text that cannot be cut into tokens")
        return _nothing(reading)
    if _LEGACY.search(text):
        reading.dangerous.add("legacy SQL")
        reading.problem("a directive for legacy SQL, whose words mean something else")
    if not script.pieces:
        reading.problem("no statement at all")
        return _nothing(reading)
    try:
        return _read_script(reading, script, text)
    except (TooDeep, RecursionError):
        reading.problem("nested too deeply")
        return _nothing(reading)


def _nothing(reading: Reading) -> TextReading:
    part = PartReading(unknown_act(), frozenset(), frozenset(), frozenset(), None)
    return TextReading((part,), reading)


def _read_script(reading: Reading, script: Script, text: str) -> TextReading:
    parts: list[PartReading] = []
    for _ in range(MAX_ROUNDS):
        before = (dict(reading.variables), dict(reading.local_tables))
        reading.local_functions.clear()
        parts = _read_pieces(reading, script, text)
        if (reading.variables, reading.local_tables) == before:
            return TextReading(tuple(parts), reading, script.branches)
        if len(script.pieces) == 1:
            return TextReading(tuple(parts), reading, script.branches)
    reading.problem("variables whose origins do not settle")
    return TextReading(tuple(parts), reading, script.branches)


def _read_pieces(reading: Reading, script: Script, text: str) -> list[PartReading]:
    functions: list[str] = []
    parts: list[PartReading] = []
    alone = len(script.pieces) == 1
    for piece in script.pieces:
        reading.tables, reading.beneath, reading.written, reading.borrows = set(), set(), set(), False
        tree = _parse_piece(reading, piece)
        act = unknown_act() if tree is None else _read_piece(reading, piece, tree)
        makes_function = _TEMPORARY_FUNCTION.match(piece.text) is not None
        if makes_function:
            functions.append(piece.text + ";\n")
        probe = text if alone else "".join(functions) + _probe_text(piece)
        parts.append(
            PartReading(
                act=act,
                tables=frozenset(reading.tables),
                beneath=frozenset(reading.beneath),
                written=frozenset(reading.written),
                probe=None if reading.borrows else probe,
                needs_probe=bool(act.operations - {Operation.SESSION}),
                calls_local=bool(functions) and not alone,
            )
        )
    return parts


def _probe_text(piece: Piece) -> str:
    if piece.kind is PieceKind.CONDITION:
        return f"SELECT ({piece.text})"
    return piece.text


def _parse_piece(reading: Reading, piece: Piece) -> exp.Expr | None:
    if piece.kind is PieceKind.OPAQUE:
        reading.problem("runs statements, procedures or errors that are made at run time")
        return None
    if piece.kind is PieceKind.CONDITION:
        return parse_expression(reading, piece.text)
    try:
        return parse_checked(reading, piece.text)
    except PARSE_ERRORS:
        reading.problem("not understood by the first reading")
        return None


def _read_piece(reading: Reading, piece: Piece, tree: exp.Expr) -> Act:
    session = frozenset({Operation.SESSION})
    if piece.kind is PieceKind.CONDITION:
        reading.note(condition(reading, Scope(), tree), PredicateUse.COMPUTED)
        return Act("IF", operations=_evaluated(reading))
    if piece.kind is PieceKind.LOOP:
        rows = reading.rows_of(tree, None)
        _assign(reading, piece.name, rows.element if rows.element is not None else row_of(rows.columns))
        return Act("FOR", frozenset({"SELECT"}), frozenset({Operation.READ}))
    if isinstance(tree, exp.Declare):
        for item in tree.expressions:
            default = item.args.get("default")
            found = value(reading, Scope(), default) if isinstance(default, exp.Expr) else NOTHING
            for name in item.this if isinstance(item.this, list) else [item.this]:
                _assign(reading, name.name, found)
        return Act("DECLARE", operations=_evaluated(reading) or session)
    if isinstance(tree, exp.Set):
        for item in tree.expressions:
            _set(reading, item.this)
        return Act("SET", operations=_evaluated(reading) or session)
    return read_statement(reading, tree)


def _evaluated(reading: Reading) -> frozenset[Operation]:
    reading.borrows = True  # procedural statements have no dry run of their own
    return frozenset({Operation.READ}) if reading.tables else frozenset({Operation.SESSION})


def _set(reading: Reading, item: exp.Expr | None) -> None:
    if not isinstance(item, exp.EQ):
        reading.problem("a SET of a kind that is not known")
        return
    found = value(reading, Scope(), item.expression)
    targets = item.this.expressions if isinstance(item.this, exp.Tuple) else [item.this]
    for place, target in enumerate(targets):
        if not isinstance(target, exp.Column) or len(target.parts) != 1:
            reading.problem("a SET of something that is no variable")
            continue
        parts = found.fields if len(targets) > 1 else (found,)
        known = parts is not None and len(parts) == len(targets)
        _assign(reading, target.name, parts[place] if known and parts is not None else derived([found]))


def _assign(reading: Reading, name: str, found: Value) -> None:
    """A variable holds whatever was ever put into it; it never joins as a stored column."""
    key = name.strip("`").lower()
    known = reading.variables.get(key)
    same_shape = known is None or known.names == found.names
    if known is None:
        reading.variables[key] = Value(found.origins, fields=found.fields, names=found.names)
    elif same_shape and known.fields is not None and found.fields is not None:
        fields = tuple(merged([a, b]) for a, b in zip(known.fields, found.fields, strict=True))
        reading.variables[key] = Value(known.origins | found.origins, fields=fields, names=known.names)
    else:
        reading.variables[key] = Value(known.origins | found.origins if known is not None else found.origins)


def result_rows(text: TextReading) -> tuple[Rows | None, bool]:
    """The rows the whole text returns (its last query's), and whether it is certain that it is those."""
    queries_found = [part.act.rows for part in text.parts if part.act.rows is not None]
    if not queries_found:
        return None, True
    return queries_found[-1], not text.branches or len(queries_found) == 1
