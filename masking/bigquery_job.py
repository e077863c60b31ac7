"""What a job says besides its rows: error messages and statistics, without the values they quote.

BigQuery's messages quote what they could not cast, parse or divide, and `ERROR()` says whatever the statement computes;
query plans quote literals. Messages are therefore shown by template only, names in them only where the client's own
statement holds them; statistics are an allow-list of fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from analysis.words import words

Json = Any

WITHHELD = "the query failed; the message is withheld because it may quote values"
_NAME = r"[A-Za-z_][\w$.:*-]*"
_AT = r"(?P<at> at \[\d{1,6}:\d{1,6}\])?"
# (pattern, how it is shown). `name` and `other` are shown only when the statement holds them.
_TEMPLATES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern + _AT + r"\.?", re.DOTALL), shown)
    for pattern, shown in (
        (rf"Unrecognized name: `?(?P<name>{_NAME})`?(?:; Did you mean .{{1,200}}\?)?", "Unrecognized name: {name}"),
        (rf"Name (?P<name>{_NAME}) not found inside (?P<other>{_NAME})", "Name {name} not found inside {other}"),
        (rf"Column name (?P<name>{_NAME}) is ambiguous", "Column name {name} is ambiguous"),
        (rf"Function not found: `?(?P<name>{_NAME})`?(?:; Did you mean .{{1,200}}\?)?", "Function not found: {name}"),
        (rf"Not found: Table (?P<name>{_NAME}) was not found in location {_NAME}", "Not found: Table {name}"),
        (rf"Not found: Dataset (?P<name>{_NAME}) was not found in location {_NAME}", "Not found: Dataset {name}"),
        (r"Not found: (?:Table|Dataset|Routine|Model|Project)\b.{1,500}", "Not found: an object the statement names"),
        (
            rf"Table \"?`?(?P<name>{_NAME})`?\"? must be qualified with a dataset.{{0,200}}",
            "Table {name} must be qualified with a dataset",
        ),
        (r"Access Denied:.{1,1000}", "Access Denied: the gateway's credential may not do this"),
        (r"Syntax error: .{1,1000}", "Syntax error"),
        (r"Query error: .{1,1000}", "Query error"),
        (r"No matching signature for .{1,2000}", "No matching signature for a function or an operator"),
        (
            r"SELECT list expression references column .{1,500} which is neither grouped nor aggregated",
            "A column of the select list is neither grouped nor aggregated",
        ),
        (r"Query parameter .{1,200} not found", "A query parameter was not found"),
        (r"Undeclared query parameters", "Undeclared query parameters"),
        (r"Scalar subquery produced more than one element", "Scalar subquery produced more than one element"),
        (r"Division by zero: .{1,200}", "Division by zero"),
        (r"Array index .{1,100} is out of bounds.{0,100}", "Array index is out of bounds"),
        (
            r"(?:Bad|Invalid) .{1,400}|Could not cast .{1,400}|Failed to parse .{1,400}",
            "A value could not be converted",
        ),
        (r"Query exceeded limit for bytes billed: .{1,300}", "Query exceeded limit for bytes billed"),
        (r"Resources exceeded during query execution.{0,500}", "Resources exceeded during query execution"),
        (r"(?:Query|Job) execution was cancelled.{0,200}|Job timed out.{0,300}", "The job was cancelled or timed out"),
        (r"Quota exceeded: .{1,500}", "Quota exceeded"),
        (r"Already Exists: .{1,500}", "Already Exists"),
    )
)


def without_values(message: str, statement: str = "") -> str:
    """Return what may be shown of an error's message; names and positions only if `statement` explains them."""
    for pattern, shown in _TEMPLATES:
        match = pattern.fullmatch(message.strip())
        if match is None:
            continue
        groups = match.groupdict()
        names = {key: _known(groups.get(key) or "", statement) for key in ("name", "other")}
        return shown.format(**names) + (groups.get("at") or "")
    return WITHHELD


def _known(name: str, statement: str) -> str:
    """A name the client wrote itself, as a whole word; a project's colon stands for a dot."""
    plain = name.replace(":", ".")
    for candidate in (plain, plain.split(".", 1)[-1], plain.rsplit(".", 1)[-1]):
        if candidate and re.search(rf"(?<![\w$]){re.escape(candidate)}(?![\w$])", statement, re.IGNORECASE):
            return candidate
    return "a name"


# --- statistics ------------------------------------------------------------------------------------------------------

_NUMBERS = words(
    """
    creationTime startTime endTime totalBytesProcessed totalSlotMs numChildJobs parentJobId completionRatio
    finalExecutionDurationMs reservation_id totalBytesBilled cacheHit billingTier statementType numDmlAffectedRows
    estimatedBytesProcessed totalPartitionsProcessed totalBytesProcessedAccuracy ddlOperationPerformed
    transferredBytes inputFiles inputFileBytes outputRows outputBytes badRecords copiedRows copiedLogicalBytes
    destinationUriFileCounts inputBytes evaluationKind insertedRowCount deletedRowCount updatedRowCount
    id name status startMs endMs slotMs inputStages parallelInputs completedParallelInputs shuffleOutputBytes
    shuffleOutputBytesSpilled recordsRead recordsWritten elapsedMs completedUnits pendingUnits activeUnits
    totalSlotMs estimatedRunnableUnits waitMsAvg waitMsMax readMsAvg readMsMax computeMsAvg computeMsMax writeMsAvg
    writeMsMax waitRatioAvg waitRatioMax readRatioAvg readRatioMax computeRatioAvg computeRatioMax writeRatioAvg
    writeRatioMax computeMode projectId datasetId tableId routineId modelId type mode transactionId
    """
)
_NESTED = words(
    """
    query load extract copy scriptStatistics dmlStats timeline queryPlan referencedTables referencedRoutines
    ddlTargetTable ddlTargetRoutine ddlDestinationTable schema fields transactionInfo exportDataStatistics
    """
)


def without_literals(statistics: Mapping[str, Json]) -> dict[str, Json]:
    """Return a job's `statistics` without anything that may quote a literal or a value: steps of plans, texts."""
    return {key: _plain(key, value) for key, value in statistics.items() if key in _NUMBERS or key in _NESTED}


def _plain(key: str, value: Json) -> Json:
    if isinstance(value, Mapping):
        return without_literals(value) if key in _NESTED else {}
    if isinstance(value, list):
        return [_plain(key, item) for item in value]
    return value
