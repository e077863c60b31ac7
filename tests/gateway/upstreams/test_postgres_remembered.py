"""What is remembered of statements is bounded by what it takes, and long texts push out nothing but long texts."""

from __future__ import annotations

from gateway.upstreams.postgres_side import LONG_ENTRIES, LONG_TEXT, MAX_KEPT_TEXT, Key, Recent


def key(name: str) -> Key:
    return (name, (), "", "")


def test_long_texts_are_few_and_leave_the_others_alone() -> None:
    kept: Recent[str] = Recent()
    kept.keep(key("short"), "short", length=LONG_TEXT)

    for number in range(3 * LONG_ENTRIES):
        kept.keep(key(f"long {number}"), "long", length=LONG_TEXT + 1)

    assert kept.find(key("short")) == "short"
    assert kept.find(key("long 0")) is None
    assert [kept.find(key(f"long {3 * LONG_ENTRIES - number}")) for number in (1, LONG_ENTRIES)] == ["long", "long"]
    assert kept.find(key(f"long {2 * LONG_ENTRIES - 1}")) is None


def test_longest_texts_are_not_kept_and_all_is_forgotten_together() -> None:
    kept: Recent[str] = Recent()
    kept.keep(key("longest"), "longest", length=MAX_KEPT_TEXT + 1)
    kept.keep(key("long"), "long", length=MAX_KEPT_TEXT)

    assert kept.find(key("longest")) is None
    assert kept.find(key("long")) == "long"
    kept.clear()
    assert kept.find(key("long")) is None
