"""How asyncio code calls a synchronous ORM function: in a worker thread, over a connection known to be alive."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a worker thread. Django's transactions need one thread from begin to end; this is that.

    There are few of them (six on two cores), which all sessions share.
    """
    return await in_thread_of(None, function, *args, **kwargs)


async def in_thread_of(
    pool: ThreadPoolExecutor | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """`in_thread`, for what must not wait for a thread the sessions share: a pool of its own."""

    def call() -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await sync_to_async(call, thread_sensitive=False, executor=pool)()
