"""Bytes drawn ahead are given out once: over calls, threads and forks."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from audit.domain.randomness import random_bytes as compiled_or_not
from audit.domain.randomness import random_bytes_python, time_ordered_id, time_ordered_id_python

BOTH = pytest.mark.parametrize("random_bytes", [compiled_or_not, random_bytes_python])


@BOTH
def test_no_bytes_are_given_out_twice(random_bytes):
    sizes = [10, 12, 16, 32] * 1000

    found = [random_bytes(size) for size in sizes]

    assert [len(part) for part in found] == sizes
    assert len(set(found)) == len(found)
    assert len(random_bytes(10_000)) == 10_000


@BOTH
def test_threads_share_nothing(random_bytes):
    found: list[list[bytes]] = []

    def draw() -> None:
        found.append([random_bytes(12) for _ in range(5_000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({part for drawn in found for part in drawn}) == 20_000


@BOTH
def test_a_forked_process_draws_its_own(random_bytes):
    random_bytes(1)  # the pool is full
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reading, 32) != random_bytes(32)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("make", [time_ordered_id, time_ordered_id_python])
@pytest.mark.parametrize("millis", [0, 1, 0x017F22E279B0, 2**48 - 1])
def test_identifiers_are_of_their_moment_and_differ(make, millis):
    made = [uuid.UUID(make(millis)) for _ in range(500)]

    assert {(one.version, one.variant, one.int >> 80) for one in made} == {(7, uuid.RFC_4122, millis)}
    assert len(set(made)) == 500
    for bit in set(range(76)) - {62, 63}:  # each of the others is noise
        assert {one.int >> bit & 1 for one in made} == {0, 1}
