"""What may fail, and what a failure tells: whether a statement ends in an error is an answer about a value.

A function that is total over what a column holds may still fail for what an expression makes of it: whoever asks picks
that (`ABS(COALESCE(NULLIF(ward, 5), -9223372036854775808))` fails for one ward alone). And an expression that fails
whatever it meets tells by whether it is run at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlglot import exp

from analysis.bigquery.functions import FAILS_BY, READS_TIME, TOTAL, TOTAL_OF_STORED
from analysis.bigquery.reading import Reading
from analysis.scope import Value
from analysis.statement import PredicateUse

_PLAIN = (
    exp.Literal, exp.Boolean, exp.Null, exp.RawString, exp.ByteString, exp.Placeholder, exp.Parameter, exp.Identifier,
    exp.Paren, exp.DataType, exp.Var, exp.TryCast,
)  # fmt: skip
# What makes bytes, or something nobody here knows.
_BYTES = (
    exp.ByteString, exp.MD5Digest, exp.SHA1Digest, exp.SHA2Digest, exp.Unhex, exp.FromBase64, exp.FromBase32,
    exp.CodePointsToBytes, exp.Anonymous, exp.AnonymousAggFunc, exp.Query, exp.Parameter, exp.Placeholder, exp.Dot,
)  # fmt: skip
_BINARY = ("binary", "varbinary")


def note_failure(reading: Reading, name: str, found: Value, arguments: Iterable[Value]) -> None:
    """A function that may fail for some value answers a question by failing."""
    if not found.discloses or name in TOTAL:
        return
    if name not in TOTAL_OF_STORED or any(is_chosen(argument) for argument in arguments):
        reading.note(found, PredicateUse.COMPUTED)


def is_chosen(found: Value) -> bool:
    """Whether a value is not one column's as it is stored, so that whoever asks has a say in it."""
    if found.fields is not None:
        return any(is_chosen(field) for field in found.fields)
    return found.discloses and not (found.stored and len(found.origins) == 1)


def may_fail(node: exp.Expr, is_stored: Callable[[exp.Expr], bool]) -> bool:
    """Whether running `node` might end the statement; true of all that is not known to be harmless.

    `is_stored` says of a name whether it is a stored column: others stand for an expression that may run here.
    """
    return any(_may_fail_itself(part, is_stored) for part in node.walk())


def _may_fail_itself(node: exp.Expr, is_stored: Callable[[exp.Expr], bool]) -> bool:
    if isinstance(node, exp.Column):
        return not is_stored(node)
    if isinstance(node, _PLAIN):
        return False
    name = str(node.name).lower() if isinstance(node, exp.Anonymous) else node.key
    return name in FAILS_BY or name in READS_TIME or name not in TOTAL


def makes_bytes(node: exp.Expr, is_stored: Callable[[exp.Expr], bool]) -> bool:
    """Whether something in it may be bytes, which are not all a text: the cast of those fails."""
    if node.find(*_BYTES) is not None or any(part.args["to"].is_type(*_BINARY) for part in node.find_all(exp.Cast)):
        return True
    return not all(is_stored(column) for column in node.find_all(exp.Column))
