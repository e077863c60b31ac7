"""Which failures of a run of tests are asked once more, alone.

The gate's workers drive two whole products on two cores; a server may be slower there than a test allowed for, and the
next run would say something else. Such a test is asked again with nothing beside it. When it passes, the gate does too
and names the test as unsteady: to be mended, like a fault. A failure that may be a value that came through, or an entry
that is missing, is never asked again: once is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.tally import Tally

# More failures than this are no accident of timing.
MOST = 3
# What is proved here must hold every time.
NEVER = ("tests/analysis/", "tests/audit/", "tests/bypass/", "tests/fuzz/", "tests/masking/")


def may_be_the_machine(failed: Sequence[str]) -> bool:
    """Whether tests with these node ids are worth asking again. A run without failures went wrong in another way."""
    return 0 < len(failed) <= MOST and not any(test.startswith(NEVER) for test in failed)


def taken_back(tally: Tally) -> Tally:
    """The tally of a run whose failures have all passed alone."""
    counts = tally["counts"]
    again = len(tally["failed"])
    passed = counts["passed"] + again
    return {**tally, "counts": {**counts, "failed": 0, "error": 0, "passed": passed, "rerun": again}, "failed": []}
