"""The worker: notifications, expiries, housekeeping. Tasks take ids; no statement or value ever travels as an argument.

`celery -A hoopweb.celery worker` runs the tasks, any number of them; exactly one `celery -A hoopweb.celery beat` runs
beside them.
"""

from __future__ import annotations

import os

from celery import Celery
from celery.loaders.app import AppLoader
from celery.schedules import crontab

from audit.sinks.schedule import EVERY_S, QUEUE
from hoopweb import heartbeat  # noqa: F401  registers the worker's sign of life
from hoopweb.loading import nothing_thrown_away
from hoopweb.task_connections import keep_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hoopweb.settings")


class Loader(AppLoader):  # type: ignore[misc]
    """Loads Django and the tasks into a worker or the scheduler, when it begins."""

    def init_worker(self) -> None:
        with nothing_thrown_away():
            super().init_worker()


app = Celery("hoopweb", loader="hoopweb.celery:Loader")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
keep_connections(app)
app.conf.beat_schedule = {
    "expire reviews": {"task": "approvals.expire_reviews", "schedule": 15.0},
    "release stale claims": {"task": "approvals.release_stale_claims", "schedule": 15.0},
    "watch emergencies": {"task": "approvals.watch_emergencies", "schedule": 5.0},
    "deliver to channels": {"task": "approvals.deliver_due", "schedule": 10.0},
    "send digests": {"task": "approvals.send_digests", "schedule": 15.0},
    "forget old messages": {"task": "approvals.forget_old_messages", "schedule": 3600.0},
    "remind reviewers": {"task": "approvals.remind_reviewers", "schedule": 30.0},
    "forget old statements": {"task": "gateway.forget_old_statements", "schedule": 60.0},
    "forget old tickets": {"task": "gateway.forget_old_tickets", "schedule": 3600.0},
    # Evidence has a worker of its own. What it has not begun by its next turn is not begun at all.
    "forget old reports": {"task": "audit.forget_old_reports", "schedule": 3600.0, "options": {"queue": QUEUE}},
    "deliver evidence": {
        "task": "audit.deliver",
        "schedule": EVERY_S,
        "options": {"queue": QUEUE, "expires": EVERY_S},
    },
    "make room for evidence": {
        "task": "audit.make_room",
        "schedule": 10.0,
        "options": {"queue": QUEUE, "expires": 10},
    },
    # What was written since the last check, often; everything, nightly; then what is past its retention.
    "check new evidence": {
        "task": "audit.check",
        "args": (True,),
        "schedule": 900.0,
        "options": {"queue": QUEUE, "expires": 600},
    },
    "check all evidence": {
        "task": "audit.check",
        "args": (False,),
        "schedule": crontab(hour="2", minute="10"),
        "options": {"queue": QUEUE},
    },
    "purge evidence": {
        "task": "audit.purge",
        "schedule": crontab(hour="3", minute="40"),
        "options": {"queue": QUEUE},
    },
}
