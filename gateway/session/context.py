"""One open session and one statement in it, as every protocol presents them to the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.making import quickly_made
from analysis.statement import Analysis, Destination
from approvals.domain.request import Principal
from audit.domain.randomness import time_ordered_id
from gateway.domain.snapshot import ConnectionSpec
from gateway.session.cursors import ApprovedCursor
from gateway.session.state import ContextState
from gateway.session.temporary import OwnPlace, TemporaryContents

if TYPE_CHECKING:
    from gateway.session.known import KnownStatements


def new_id() -> str:
    """A time-ordered identifier (UUIDv7, RFC 9562 §5.7) as 36 characters."""
    return time_ordered_id(time.time_ns() // 1_000_000)


@dataclass
class SessionContext(ContextState):
    """State of a session that decisions and records depend on. `role` and `search_path` are the server's own words."""

    principal: Principal
    connection: ConnectionSpec
    protocol: str  # postgres | rest | websocket | mcp | http
    client_address: str = ""
    client_tls: str = ""  # protocol version and cipher of the client leg, empty on plaintext loopback
    upstream_tls: str = ""
    application: str = ""
    traceparent: str = ""  # the client's own trace, where it names one (W3C Trace Context)
    session_id: str = field(default_factory=new_id)
    opened_at: float = field(default_factory=time.time)
    role: str = field(default_factory=str)
    search_path: str = field(default_factory=str)
    schema_version: str = ""  # of what the session's last analysis was about
    settings: str = ""  # those that change how literals are read, as text
    # Set once a statement with `analysis.creates_temp` ran: a side connection cannot see temporary relations, which
    # may shadow real ones, so the second reading must be made in the session itself, or nothing is complete.
    temp_relations: bool = field(default_factory=bool)
    # Definitions were changed in a transaction that is still open: a side connection cannot see them either.
    uncommitted_definitions: bool = field(default_factory=bool)
    place: OwnPlace | None = field(default=None, repr=False)  # where the session's own second reading is made
    own_reading: object | None = field(default=None, repr=False)  # the analyst's, of this session alone
    temporary: TemporaryContents = field(default_factory=TemporaryContents, repr=False)
    # What the names of prepared statements and cursors stand for, as far as the server has confirmed them.
    prepared: dict[str, Analysis] = field(default_factory=dict)
    cursors: dict[str, Analysis] = field(default_factory=dict)
    prepared_transactions: set[str] = field(default_factory=set)  # the one that may be ended now, by its name
    approved_cursors: dict[str, ApprovedCursor] = field(default_factory=dict)
    # The settings under which the text behind a name, ("prepared" | "cursor", name), was read.
    settings_of: Callable[[str, str], str | None] | None = field(default=None, repr=False)
    known: KnownStatements | None = field(default=None, repr=False)  # the pipeline's memory of this session

    @property
    def records_results(self) -> bool:
        """Whether masked results are kept, or only what is said of them."""
        return self.connection.recording == "masked-results"


@quickly_made
@dataclass(frozen=True, slots=True)
class StatementRequest:
    """A statement about to run: its text and bound values, in wire form (None is NULL)."""

    text: str
    parameters: tuple[bytes | None, ...] = ()
    parameter_types: tuple[int, ...] = ()
    parameter_formats: tuple[int, ...] = ()
    declared_parameters: str = ""  # BigQuery: names and types as canonical JSON; `parameters` then is one JSON document
    destination: Destination | None = None  # BigQuery: where a job writes to besides what its text says
    upload: str = ""  # what was found in rows that come beside it: "" nothing, "masked" values, or "unreadable"
    # Set by the pipeline: what the names in `text` stand for (FETCH c, EXECUTE p, DECLARE, PREPARE).
    governed_as: str | None = None
    # Its text, or what its names stand for, was read under other settings than the session has now.
    read_otherwise: bool = False
    wait_for_review: bool = True  # False: answer "pending" at once (REST with wait_s 0)
    statement_id: str = field(default_factory=new_id)
