"""The demo's people and agent, loaded again: what is theirs stays, and no password is computed for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User

from hoopweb.demo.load import USERS, create_users
from tests.hashing import OneRound

pytestmark = pytest.mark.django_db


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every hash that was computed."""
    lines: list[str] = []
    encode = PBKDF2PasswordHasher.encode

    def counted(self: PBKDF2PasswordHasher, password: str, salt: str, iterations: int | None = None) -> str:
        lines.append(salt)
        return encode(self, password, salt, iterations)

    monkeypatch.setattr(OneRound, "encode", counted)
    return lines


def test_second_load_keeps_every_password_and_computes_none(tmp_path: Path, computed: list[str]) -> None:
    passwords = create_users(tmp_path)
    assert len(computed) >= len(USERS)
    computed.clear()

    again = create_users(tmp_path)

    assert again == passwords
    assert computed == []
    assert all(User.objects.get(username=name).check_password(passwords[name]) for name in USERS)


def test_password_that_was_changed_is_the_demos_again(tmp_path: Path) -> None:
    passwords = create_users(tmp_path)
    reviewer = User.objects.get(username="reviewer")
    reviewer.set_password("another")
    reviewer.save()

    create_users(tmp_path)

    assert User.objects.get(username="reviewer").check_password(passwords["reviewer"])
