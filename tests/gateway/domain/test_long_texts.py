"""Long texts take turns beside the event loop, and nobody gets two of them by leaving early."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.domain.long_texts import LONG_TEXT, read_beside


async def test_short_text_is_read_at_once() -> None:
    assert await read_beside("agent", LONG_TEXT, threading.get_ident) == threading.get_ident()


async def test_long_text_is_read_beside_the_loop() -> None:
    goes_on = threading.Event()

    reading = asyncio.create_task(read_beside("agent", LONG_TEXT + 1, lambda: goes_on.wait(30)))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(goes_on.set)  # on the loop itself nobody would ever call it

    assert await reading


async def test_what_a_reading_raises_comes_to_whoever_asked() -> None:
    def read() -> None:
        raise ValueError("unlexable")

    with pytest.raises(ValueError, match="unlexable"):
        await read_beside("agent", LONG_TEXT + 1, read)


async def test_principal_with_many_texts_waits_for_itself() -> None:
    began: list[str] = []
    goes_on = threading.Event()

    def reading(name: str) -> asyncio.Task[None]:
        def read() -> None:
            began.append(name)
            goes_on.wait(30)

        return asyncio.create_task(read_beside(name[0], LONG_TEXT + 1, read))

    floods = [reading(f"a{number}") for number in range(20)]
    await asyncio.sleep(0)
    other = reading("b")
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(other, *floods)

    assert began[:2] == ["a0", "b"]
    assert len(began) == 21


async def test_whoever_leaves_keeps_the_place_until_its_thread_is_done() -> None:
    first, goes_on, second = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        first.set()
        goes_on.wait(30)

    left = asyncio.create_task(read_beside("agent", LONG_TEXT + 1, read))
    await asyncio.to_thread(first.wait, 30)
    left.cancel()
    again = asyncio.create_task(read_beside("agent", LONG_TEXT + 1, second.set))
    with pytest.raises(asyncio.CancelledError):
        await left
    for _ in range(50):
        await asyncio.sleep(0)

    assert not second.is_set()  # it has not been given the place
    goes_on.set()
    await again
    assert second.is_set()


async def test_whoever_leaves_the_queue_is_waited_for_by_nobody() -> None:
    goes_on = threading.Event()
    began: list[str] = []
    holding = asyncio.create_task(read_beside("a", LONG_TEXT + 1, lambda: goes_on.wait(30)))
    waiting = asyncio.create_task(read_beside("b", LONG_TEXT + 1, lambda: began.append("b")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    goes_on.set()

    await holding
    await read_beside("b", LONG_TEXT + 1, lambda: began.append("b again"))
    assert began == ["b again"]
