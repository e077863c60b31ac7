"""A worker's connection to the control database is kept from task to task, as Django keeps a view's from request to
request.

Celery closes it around every task. Each then paid for a handshake and for a new process of PostgreSQL: more than most
tasks do. Django's own rules end it instead: after CONN_MAX_AGE, after an error, or where the server no longer answers
(CONN_HEALTH_CHECKS asks before a task's first query).
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun
from django.db import close_old_connections


def keep_connections(app: Celery) -> None:
    """Let Django, not Celery, end the connections of `app`'s workers."""
    # Not through the settings: the fixup reads this name without the namespace they are read with.
    app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize
    task_prerun.connect(end_what_is_over)
    task_postrun.connect(end_what_is_over)


def end_what_is_over(sender: Any = None, **_: Any) -> None:
    """Close what is too old or broken, and have the rest looked at before its next use. Within a test's own
    transaction (an eager task) nothing is over."""
    if not getattr(getattr(sender, "request", None), "is_eager", False):
        close_old_connections()
