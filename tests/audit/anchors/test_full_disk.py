"""A disk that is full while a checkpoint is put on it: half a note passes for no whole one, and for no forged one."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit.anchors.delivery import anchor_newest
from audit.domain.anchor import anchor_file, anchored
from audit.domain.append import append_entries
from audit.domain.check import check_evidence
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.keys import log_signer
from audit.models import Anchor, Checkpoint
from tests.audit.factories import opened

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anchors_of_this_test(settings, tmp_path):
    settings.HOOPWEB_ANCHOR_DIR = tmp_path / "anchored"


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond `size`: a write that goes past it is cut short, and the next one fails (setrlimit(2))."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_half_a_note_is_taken_back_and_the_log_is_intact():
    append_entries([opened()])
    whole = sign_checkpoint()
    path = anchor_file(log_signer().name)

    with room_for(path.stat().st_size + 100), pytest.raises(OSError, match="too large"):
        sign_checkpoint()

    assert anchored(log_signer().name) == [whole.note]
    assert check_evidence(checked_by="test").findings == ()
    again = sign_checkpoint()
    assert anchored(log_signer().name) == [whole.note, again.note]
    assert check_evidence(checked_by="test").findings == ()


def test_a_directory_that_took_half_a_note_does_not_hold_it(settings):
    append_entries([opened()])
    note = sign_checkpoint().note
    row = Anchor.objects.create(name="worm", kind="directory", url="file:///worm")
    directory = Path(settings.HOOPWEB_ANCHOR_DIR) / "worm"

    with room_for(100):
        assert not anchor_newest(row.pk)
    assert list(directory.iterdir()) == []
    Anchor.objects.update(next_try_at=None)

    assert anchor_newest(row.pk)
    (file,) = directory.iterdir()
    assert file.read_text() == note


def test_a_file_that_a_crash_cut_short_is_no_anchor(settings):
    append_entries([opened()])
    sign_checkpoint()
    row = Anchor.objects.create(name="worm", kind="directory", url="file:///worm")
    assert anchor_newest(row.pk)
    (file,) = (Path(settings.HOOPWEB_ANCHOR_DIR) / "worm").iterdir()
    file.chmod(0o640)
    file.write_bytes(file.read_bytes()[:50])
    Anchor.objects.update(cursor=0, delivered_at=None)

    assert not anchor_newest(row.pk)
    row.refresh_from_db()
    assert row.problem == f"{file.name} is there and is not the note: remove it"
    assert Checkpoint.objects.count() == 1
