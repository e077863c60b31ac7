"""The vocabulary of analysis: what a request does, as plain frozen values.

A `Statement` is the exact text a client sent. An `Analysis` is everything the decision, the masking plan and the
record may rely on, and says whether it may be relied on at all: `complete` is true only when two independent
readings (ours and the database's) agree. Every consumer treats an incomplete analysis as hostile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from analysis.making import quickly_made


class Operation(StrEnum):
    """What kind of right a statement needs. SESSION (transaction control, SET, SHOW …) needs any right at all."""

    READ = "read"
    WRITE = "write"
    TEMP = "temp"  # relations only this session sees: making, filling and dropping them; whoever may DDL may this
    LISTEN = "listen"  # hearing what others send (LISTEN); asked for on connections with PHI alone
    DDL = "ddl"
    ADMIN = "admin"
    SESSION = "session"


@quickly_made
@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """A relation as the database resolved it. For BigQuery `schema` is `project.dataset` or `dataset`."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


@quickly_made
@dataclass(frozen=True, slots=True, order=True)
class ColumnRef:
    """A stored column; `column` holds the dotted path for nested fields."""

    schema: str
    table: str
    column: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}.{self.column}"

    @property
    def table_ref(self) -> TableRef:
        return TableRef(self.schema, self.table)


class Transform(StrEnum):
    """How an output value depends on an origin column, weakest disclosure last."""

    IDENTITY = "identity"  # the stored value itself, perhaps renamed
    DERIVED = "derived"  # any expression over it, aggregates that return a value included
    SAFE = "safe"  # a listed total function that keeps a safe property only (count, is null)


@quickly_made
@dataclass(frozen=True, slots=True, order=True)
class Origin:
    column: ColumnRef
    transform: Transform


NOT_YET = 0  # InvalidOid: a relation that the statement itself makes


@quickly_made
@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """A write that puts what `origin` holds into an attribute of a relation, which then shows it as well."""

    relation: int  # OID, or NOT_YET
    attribute: int
    column: ColumnRef
    origin: Origin


@dataclass(frozen=True, slots=True)
class Creation:
    """A temporary table made by name; `columns` are the origins of each, in order; empty: it begins without rows."""

    name: str
    columns: tuple[frozenset[Origin], ...] = ()


@quickly_made
@dataclass(frozen=True, slots=True)
class Output:
    """One result column. `resolved` false means the origins are not to be trusted: mask whole.

    `fields`: the parts of a record (BigQuery STRUCT), where they are known one by one; `origins` then holds them all.
    `mixed`: beside a stored column's values it holds others, which whoever asks may have chosen.
    """

    name: str
    origins: tuple[Origin, ...] = ()
    resolved: bool = True
    fields: tuple[Output, ...] = ()
    mixed: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Carried:
    """Values of a stored column a statement puts into another one, as they are or computed from.

    `into` names a nested field where it is known, and `*` where nothing is.
    """

    origin: ColumnRef
    into: ColumnRef


class PredicateUse(StrEnum):
    """How a column steers which rows appear, in which order, or how often: the channels of inference."""

    JOIN_EQUALITY = "join_equality"  # column = column, both stored columns of relations; set operations likewise
    NULL_TEST = "null_test"  # IS [NOT] NULL
    COMPARISON = "comparison"  # against a literal, a parameter, or anything computed
    ORDER = "order"  # ORDER BY the bare stored column
    GROUP = "group"  # GROUP BY / DISTINCT over bare stored columns only
    REFERENCE = "reference"  # a foreign key looks up in it what is written into the column of its partner
    COMPUTED = "computed"  # any other use: inside an expression, a window, a CASE, mixed with constants


@quickly_made
@dataclass(frozen=True, slots=True, order=True)
class Predicate:
    """`partners`: the other stored columns its values are matched with (a join, INTERSECT) or mixed with (ORDER BY over
    a UNION ALL). Such a use is only as harmless as the partners: a guess table is a partner too."""

    column: ColumnRef
    use: PredicateUse
    partners: tuple[ColumnRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """BigQuery: where a job writes to besides what its text says, `project.dataset.table`.

    `columns` is None where the text's own result is written. Otherwise the rows come with the call, into these columns
    (`*`: into columns nobody can name), or from `outside`: files the service fetches by itself.
    """

    table: str
    disposition: str = "WRITE_EMPTY"
    columns: tuple[str, ...] | None = None
    outside: bool = False
    changes_schema: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Statement:
    """The exact text, its dialect (`postgres`, `bigquery`, `mysql`, `snowflake`) and declared parameter types."""

    text: str
    dialect: str = "postgres"
    parameter_types: tuple[int, ...] = ()  # PostgreSQL type OIDs, 0 = let the server infer
    declared_parameters: str = ""  # BigQuery: names and types of the parameters, no values, as canonical JSON
    destination: Destination | None = None
    # Where the database's reading depends on the values (bytes that pruning leaves over): one canonical JSON document.
    parameter_values: bytes = field(default=b"", repr=False)


@quickly_made
@dataclass(frozen=True, slots=True)
class Facts:
    """Deterministic properties policies may name. Unknown is the dangerous value, never the harmless one."""

    no_where: bool = False  # UPDATE/DELETE/SELECT of rows without a restricting WHERE (`WHERE true` included)
    export: bool = False  # COPY … TO, SELECT INTO, CREATE TABLE AS, EXPORT DATA …
    row_bound: int | None = None  # proven upper bound of rows returned or collected; None when there is none
    collects: bool = False  # one result row may carry many (json_agg, ARRAY(SELECT …)); rows then means those
    estimated_rows: int | None = None  # the planner's estimate, None when it was not asked
    estimated_bytes: int | None = None  # bytes processed, where the database says so before running
    aggregated: bool = False  # every output is an aggregate or one of at most two non-unique group keys: not bulk
    statement_count: int = 1
    uncounted: bool = False  # changes rows, or carries them off, in a number that its answer does not tell


@quickly_made
@dataclass(frozen=True, slots=True)
class RiskAddend:
    """One visible term of the risk score, e.g. ("bulk read", 30)."""

    reason: str
    points: int


@dataclass(frozen=True, slots=True)
class CopyFormat:
    """How COPY frames its rows (PostgreSQL COPY, "File Formats"): what a wire needs to mask them in flight."""

    format: str = "text"  # text | csv | binary
    delimiter: str = "\t"
    null: str = "\\N"
    header: bool = False
    quote: str = '"'
    escape: str = '"'


@quickly_made
@dataclass(frozen=True, slots=True)
class Analysis:
    """What one statement does. `problems` says, in words without literals, why it is not complete."""

    statement: Statement
    kind: str  # SELECT, INSERT, COPY_TO, CREATE_TABLE_AS, SET, BEGIN, FETCH, …: upper-case keyword(s)
    fingerprint: str  # strict shape hash: only literals stripped; names, order and structure kept
    complete: bool
    problems: tuple[str, ...] = ()
    operations: frozenset[Operation] = frozenset()
    tables_read: frozenset[TableRef] = frozenset()
    tables_written: frozenset[TableRef] = frozenset()
    reads: frozenset[ColumnRef] = frozenset()
    writes: frozenset[ColumnRef] = frozenset()
    outputs: tuple[Output, ...] | None = None  # None: the statement returns no rows
    predicates: frozenset[Predicate] = frozenset()
    computed: frozenset[ColumnRef] = frozenset()  # columns that values of other sizes than theirs are made of
    sized: frozenset[ColumnRef] = frozenset()  # columns that decide how large a relation of the session's own is
    carries: frozenset[Carried] = frozenset()  # BigQuery; what it writes into places that outlive the statement
    functions: frozenset[str] = frozenset()
    opaque_functions: frozenset[str] = frozenset()  # user functions nobody has classified, hidden SQL
    facts: Facts = field(default_factory=Facts)
    risk: tuple[RiskAddend, ...] = ()
    literal_independent: bool = False  # the same decision and masks hold for every literal of this shape
    name: str = ""  # of the prepared statement or cursor a PREPARE, EXECUTE, DECLARE, FETCH, CLOSE … is about
    inner: Analysis | None = None  # what PREPARE and DECLARE name, analysed; never executed by them
    copy: CopyFormat | None = None  # set for COPY … TO STDOUT and FROM STDIN
    creates_temp: bool = False  # the session may have temporary relations from here on
    creates: Creation | None = None  # the one it makes, where it is understood
    flows: frozenset[Flow] = frozenset()  # what it carries into relations, per attribute
    parameters: tuple[int, ...] = ()  # OIDs of its parameters' types, as the database resolved those it was to infer

    @property
    def risk_score(self) -> int:
        return sum(addend.points for addend in self.risk)
