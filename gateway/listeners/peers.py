"""Requests handed to the process that holds what they are about.

Jobs and uploads live in the gateway process that took them, and a balancer (or SO_REUSEPORT) sends a client's next
request anywhere. Each process says in Redis what it holds; whoever is asked about something held elsewhere sends the
request on as it came, token included, and passes the answer back. The holder authenticates and decides it like any
other: nothing is believed because a peer said it. Messages are sealed with a key of the data plane (AES-256-GCM, the
name of their queue as associated data) and are good for `FRESH_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.pulses import Beat, unheard

logger = logging.getLogger(__name__)

FRESH_S = 60.0
# The longest wait a client may ask for (a minute), and what it takes besides.
ANSWER_WITHIN_S = 75
HELD_S = 24 * 3600
KEPT_S = 3700  # after its end: a little longer than the holder keeps it
POLL_S = 5
LATE_S = 10.0  # an answer may come so much later than it should
_NONCE = 12
_HEAD = 4
_BROKEN = (redis.exceptions.RedisError, OSError)


class PeersUnavailable(Exception):
    """Nobody can say who holds it, or the holder does not answer: trying again helps."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer: a few words, and a body."""

    head: Mapping[str, Any]
    body: bytes = field(default=b"", repr=False)


Answer = Callable[[Message], Awaitable[Message]]


class Peers:
    """This process among the others."""

    def __init__(self, *, gateway_id: str, redis_url: str, secret: str) -> None:
        self._id = gateway_id
        self._redis: Any = redis.asyncio.Redis.from_url(redis_url, socket_timeout=None, socket_connect_timeout=5)
        self._secret = hmac.digest(secret.encode(), b"hoopweb gateway peers v1", "sha256")
        self._cipher = AESGCM(self._secret)
        self._answering: set[asyncio.Task[None]] = set()

    async def claim(self, name: str) -> str:
        """Hold `name` unless another living process does; that one's id, or an empty text. Raises PeersUnavailable."""
        key = self._key(name)
        try:
            if await self._redis.set(key, self._id, nx=True, ex=HELD_S):
                return ""
            holder = await self.holder(name)
            if not holder:  # ours already, or of a process that ended
                await self._redis.set(key, self._id, ex=HELD_S)
        except _BROKEN as error:
            raise PeersUnavailable from error
        return holder

    async def holder(self, name: str) -> str:
        """The other living process that holds it; empty when there is none. Raises PeersUnavailable."""
        try:
            found = await self._redis.get(self._key(name))
            holder = "" if found is None else found.decode()
            if holder in ("", self._id) or not await self._redis.exists(f"hoopweb:gateway:{holder}"):
                return ""
        except _BROKEN as error:
            raise PeersUnavailable from error
        return holder

    async def others(self) -> list[str]:
        """Every other living process. Raises PeersUnavailable."""
        prefix = "hoopweb:gateway:"
        try:
            found = [key.decode().removeprefix(prefix) async for key in self._redis.scan_iter(match=f"{prefix}*")]
        except _BROKEN as error:
            raise PeersUnavailable from error
        return sorted({str(each) for each in found} - {self._id})

    async def over(self, name: str) -> None:
        """What it stands for is over: forget it when the holder does."""
        with contextlib.suppress(*_BROKEN):
            await self._redis.expire(self._key(name), KEPT_S)

    async def ask(self, holder: str, question: Message, *, within_s: float = ANSWER_WITHIN_S) -> Message:
        """Send a request on. Raises PeersUnavailable."""
        queue, reply = _queue(holder), f"hoopweb:peer:answer:{secrets.token_hex(16)}"
        head = {**question.head, "reply": reply}
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.rpush(queue, self._sealed(queue, Message(head, question.body)))
                pipeline.expire(queue, int(FRESH_S))
                await pipeline.execute()
            found = await self._redis.blpop([reply], timeout=within_s)
        except _BROKEN as error:
            raise PeersUnavailable from error
        answer = None if found is None else self._opened(reply, found[1])
        if answer is None:
            raise PeersUnavailable
        return answer

    async def serve(self, answer: Answer, beat: Beat = unheard) -> None:
        """Answer what others send on, until cancelled."""
        queue = _queue(self._id)
        while True:
            beat()
            try:
                # The client has no time of its own for answers: a Redis that vanished would be waited for for ever.
                async with asyncio.timeout(POLL_S + LATE_S):
                    found = await self._redis.blpop([queue], timeout=POLL_S)
            except _BROKEN as error:
                logger.warning("requests of other gateways cannot be heard: error=%s", type(error).__name__)
                await asyncio.sleep(1)
                continue
            question = None if found is None else self._opened(queue, found[1])
            if question is not None:
                task = asyncio.create_task(self._answer(question, answer))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def close(self) -> None:
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self._redis.aclose()

    async def _answer(self, question: Message, answer: Answer) -> None:
        reply = str(question.head["reply"])
        try:
            told = await answer(question)
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.rpush(reply, self._sealed(reply, told))
                pipeline.expire(reply, int(FRESH_S))
                await pipeline.execute()
        except _BROKEN as error:
            logger.warning("an answer to another gateway was lost: error=%s", type(error).__name__)
        except Exception as error:  # the other gateway hears nothing, and says so to its client
            logger.error("a handed request broke: error=%s", type(error).__name__)

    def _key(self, name: str) -> str:
        """Names hold what clients chose; in Redis stands their code."""
        return f"hoopweb:peer:held:{hmac.digest(self._secret, name.encode(), 'sha256').hex()}"

    def _sealed(self, queue: str, message: Message) -> bytes:
        head = json.dumps({**message.head, "at": time.time()}).encode()
        plain = len(head).to_bytes(_HEAD, "big") + head + message.body
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, queue.encode())

    def _opened(self, queue: str, sealed: bytes) -> Message | None:
        """None for what was not sealed for this queue, or not lately."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], queue.encode())
            size = int.from_bytes(plain[:_HEAD], "big")
            head = json.loads(plain[_HEAD : _HEAD + size])
        except (InvalidTag, ValueError):
            logger.warning("a message of another gateway could not be opened")
            return None
        if not isinstance(head, dict) or abs(time.time() - float(head.get("at", 0))) > ANSWER_WITHIN_S:
            return None
        return Message(head, plain[_HEAD + size :])


def _queue(gateway_id: str) -> str:
    return f"hoopweb:peer:ask:{gateway_id}"
