"""How a test that runs on a loop asks the database, without leaving a connection that keeps it from being emptied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """What `function` returns, called in another thread over a connection that ends with it."""

    def call() -> T:
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(call)
