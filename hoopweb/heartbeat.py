"""Signs of life in Redis: a key with a short life for the worker, one a process for the data plane.

The worker's key is written by its main process on Celery's own heartbeat (every two seconds), so a busy pool does not
look dead and a dead worker does not look alive.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Any

import redis
from celery.signals import celeryd_after_setup, heartbeat_sent
from django.conf import settings

logger = logging.getLogger(__name__)

WORKER_KEY = "hoopweb:worker"
GATEWAY_KEYS = "hoopweb:gateway:*"
TTL_S = 10


@lru_cache(maxsize=1)
def shared_redis() -> redis.Redis:
    """One client, with its own pool, for a process. Every call gives up within two seconds."""
    return redis.Redis.from_url(settings.HOOPWEB_REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


_serves_people = True


def remember_queues(instance: Any, **_: Any) -> None:
    """A worker of other queues, such as evidence, must not make the reviewers' worker look alive."""
    global _serves_people  # noqa: PLW0603  one worker a process
    _serves_people = settings.CELERY_TASK_DEFAULT_QUEUE in instance.app.amqp.queues.consume_from


celeryd_after_setup.connect(remember_queues)


def worker_is_alive(**_: Any) -> None:
    if not _serves_people:
        return
    try:
        shared_redis().set(WORKER_KEY, int(time.time()), ex=TTL_S)
    except redis.RedisError as error:
        logger.warning("worker heartbeat not written: error=%s", type(error).__name__)


heartbeat_sent.connect(worker_is_alive)
