"""When and where evidence is delivered: the queue of the evidence worker, and its beat. Needs no Django."""

from __future__ import annotations

QUEUE = "evidence"
EVERY_S = 2.0
