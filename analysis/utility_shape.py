"""The value a statement's own keywords give, and the few helpers every reader of keywords needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from analysis.lexer import LexError, Token, TokenKind, identifier
from analysis.making import quickly_made
from analysis.statement import CopyFormat, Operation

READ = frozenset({Operation.READ})
SESSION = frozenset({Operation.SESSION})
WRITE = frozenset({Operation.WRITE})
DDL = frozenset({Operation.DDL})
TEMP = frozenset({Operation.TEMP})
LISTEN = frozenset({Operation.LISTEN})
ADMIN = frozenset({Operation.ADMIN})
QUERY_WORDS = frozenset({"SELECT", "VALUES", "TABLE", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE"})


@dataclass(frozen=True, slots=True)
class Made:
    """A permanent relation made of a query: `schema` is "" where the session's search_path decides; `columns` are the
    names that replace the query's own, from the first on."""

    schema: str
    name: str
    columns: tuple[str, ...] = ()


@quickly_made
@dataclass(frozen=True, slots=True)
class Utility:
    """`probe` is a query for the second reading, at `probe_offset` in the text (-1: composed, no place in it)."""

    kind: str
    operations: frozenset[Operation] = frozenset()
    probe: str | None = None
    probe_offset: int = -1
    problems: tuple[str, ...] = ()
    name: str = ""
    export: bool = False
    no_where: bool = False
    writes_probed: bool = False  # the probed columns are what is written, not read
    writes_whole: bool = False  # every column of the probed tables, named or not
    outputs: tuple[str, ...] | None = None  # names of result columns no table contributes to
    derived_output: str = ""  # one output made of everything the probe is steered by (EXPLAIN)
    returns_probe: bool = False
    runs_probe: bool = False  # a cursor WITH HOLD: its query is run by COMMIT
    copy: CopyFormat | None = None
    creates_temp: bool = False
    creates: str = ""  # the name of the temporary table it makes, where that is understood
    made: Made | None = None  # the permanent one it fills, where its name is understood
    defines: Made | None = None  # the permanent one it makes, in a form in which nothing hides but in its query
    temporary_only: bool = False  # understood as long as what is probed belongs to the session alone
    row_bound: int | None = None
    executes: bool = False  # EXECUTE, or EXPLAIN of one: what a prepared statement stands for
    arguments: str = ""  # of EXECUTE, where they are more than literals: evaluated before anything else happens
    parameter_types: str = ""  # PREPARE name (types): as written

    @property
    def is_query(self) -> bool:
        return self.kind == "QUERY"

    @property
    def keeps_parameters(self) -> bool:
        """Whether the parameters in its text are its own, and none of the message it comes with."""
        return self.kind == "PREPARE"


@quickly_made
@dataclass(frozen=True, slots=True)
class StatementText:
    text: str
    tokens: list[Token] = field(default_factory=list)

    def words(self, start: int = 0, stop: int | None = None) -> list[str]:
        return [token.word for token in self.tokens[start:stop]]

    def from_token(self, index: int) -> str:
        return self.text[self.tokens[index].start :] if index < len(self.tokens) else ""

    def name_at(self, index: int) -> str:
        if index >= len(self.tokens):
            return ""
        token = self.tokens[index]
        try:
            return identifier(token) if token.kind in (TokenKind.WORD, TokenKind.QUOTED) else ""
        except LexError:
            return ""


def after_name(read: StatementText, index: int) -> int:
    """The index after a possibly qualified name starting at `index`."""
    index += 1
    while index + 1 < len(read.tokens) and read.tokens[index].text == ".":
        index += 2
    return index


def made_relation(read: StatementText, index: int) -> Made | None:
    """`[IF NOT EXISTS] [schema.]name [(columns)]` at `index`."""
    if read.words(index, index + 3) == ["IF", "NOT", "EXISTS"]:
        index += 3
    end = after_name(read, index)
    names = [read.name_at(at) for at in range(index, end, 2)]
    if not all(names):
        return None
    columns: tuple[str, ...] = ()
    if end < len(read.tokens) and read.tokens[end].text == "(":
        columns = tuple(read.name_at(at) for at in range(end + 1, close_of(read, end), 2))
    return Made(names[-2] if len(names) > 1 else "", names[-1], columns) if all(columns) else None


def inner_query(read: StatementText, index: int) -> bool:
    return index < len(read.tokens) and (read.tokens[index].word in QUERY_WORDS or read.tokens[index].text == "(")


def close_of(read: StatementText, index: int) -> int:
    """The index of the parenthesis that closes the one at `index`; the end when none does."""
    depth = 0
    for at in range(index, len(read.tokens)):
        depth += {"(": 1, ")": -1}.get(read.tokens[at].text, 0)
        if depth == 0:
            return at
    return len(read.tokens)
