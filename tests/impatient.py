"""The stack, whose supervisor starts again at once what a test has killed: `python -m tests.impatient --with-parent`.

After a second kill within half a minute `make run` waits longer and longer, so that what cannot start does not take the
machine (tests/hoopweb/embedded/test_processes.py). What tests kill can start.
"""

from __future__ import annotations

import sys

from hoopweb.embedded import processes
from hoopweb.embedded.__main__ import main

if __name__ == "__main__":
    processes._LAST_DELAY_S = processes._FIRST_DELAY_S
    sys.exit(main())
