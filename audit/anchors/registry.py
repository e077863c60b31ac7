"""The kinds of anchor, and what each needs to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.models_delivery import Anchor


def anchor_problems(anchor: Anchor) -> dict[str, str]:
    return {}
