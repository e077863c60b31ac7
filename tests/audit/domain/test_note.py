"""Signed notes against the published example of golang.org/x/mod/sumdb/note, and checkpoints of our own."""

from __future__ import annotations

import pytest

from audit.domain.note import (
    Checkpoint,
    ForgedSignature,
    NoteProblem,
    Signer,
    UnknownKey,
    Verifier,
    open_checkpoint,
    open_note,
    parse_checkpoint,
    split_notes,
)

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNER = Signer("hoopweb.log/0123", b"k" * 32)


def test_published_note_verifies():
    assert open_note(NOTE, [Verifier.parse(PETER)]) == TEXT


def test_published_note_with_one_letter_changed_is_forged():
    with pytest.raises(ForgedSignature):
        open_note(NOTE.replace("cryptography", "Cryptography"), [Verifier.parse(PETER)])


def test_published_key_round_trips():
    assert Verifier.parse(PETER).vkey == PETER


@pytest.mark.parametrize(
    "vkey", ["", "a", PETER.replace("c74f20a3", "c74f20a4"), PETER.replace("Peter", "Paul"), PETER[:-4]]
)
def test_malformed_keys_are_refused(vkey):
    with pytest.raises(NoteProblem):
        Verifier.parse(vkey)


def test_note_of_another_key_is_unknown():
    with pytest.raises(UnknownKey):
        open_note(NOTE, [SIGNER.verifier])


def test_signature_of_an_unknown_key_beside_a_known_one_is_ignored():
    ours = SIGNER.sign(TEXT)
    both = ours + NOTE.rpartition("\n\n")[2]

    assert open_note(both, [SIGNER.verifier]) == TEXT


def test_checkpoint_round_trips_with_its_time():
    checkpoint = Checkpoint(SIGNER.name, 42, b"r" * 32, ("time 1700000000",))

    opened = open_checkpoint(SIGNER.sign(checkpoint.text()), [SIGNER.verifier])

    assert opened == checkpoint
    assert opened.time_s == 1_700_000_000


def test_checkpoint_of_another_origin_is_refused_even_when_signed():
    note = SIGNER.sign(Checkpoint("other.example/log", 42, b"r" * 32).text())

    with pytest.raises(NoteProblem, match="origin"):
        open_checkpoint(note, [SIGNER.verifier])


@pytest.mark.parametrize(
    "text",
    ["", "a\n1\n", "a\n01\ncnJycg==\n", "a\n-1\ncnJycg==\n", "a\n1\ncnJycg==\n", "a\n1\n!!\n", "a\n\u0661\nAAAA\n"],
)
def test_malformed_checkpoints_are_refused(text):
    with pytest.raises(NoteProblem):
        parse_checkpoint(text)


def test_a_file_of_notes_splits_into_its_notes():
    notes = [SIGNER.sign(Checkpoint(SIGNER.name, size, b"r" * 32).text()) for size in (1, 2, 3)]

    assert split_notes("".join(note + "\n" for note in notes)) == notes
    assert split_notes("".join(notes)) == notes
