"""What of other people's log lines must not be kept."""

from __future__ import annotations

import logging


class WithoutQuery(logging.Filter):
    """Addresses end before their query: a client may have put its token there, though no door looks for one."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(a.partition("?")[0] if isinstance(a, str) else a for a in record.args)
        return True
