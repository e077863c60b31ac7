"""Statements about the session: transactions, settings, what they show and reset, notifications."""

from __future__ import annotations

from analysis.lexer import Token, TokenKind
from analysis.literals import literal_value
from analysis.settings import may_set
from analysis.utility_shape import ADMIN, LISTEN, SESSION, WRITE, StatementText, Utility
from analysis.words import words

_TRANSACTION_WORDS = words(
    """
    BEGIN START TRANSACTION WORK COMMIT END ROLLBACK ABORT AND CHAIN NO ISOLATION LEVEL READ ONLY WRITE
    COMMITTED UNCOMMITTED REPEATABLE SERIALIZABLE NOT DEFERRABLE TO SAVEPOINT RELEASE PREPARED
    """
)


def read_transaction(read: StatementText) -> Utility:
    words = read.words()
    kind = {"START": "BEGIN", "END": "COMMIT", "ABORT": "ROLLBACK"}.get(words[0], words[0])
    if "PREPARED" in words:
        return read_two_phase(f"{kind}_PREPARED", read)
    if kind in ("SAVEPOINT", "RELEASE") or "TO" in words[1:] or "SAVEPOINT" in words:
        words, name = words[:-1], read.name_at(len(read.tokens) - 1)
        kind = "ROLLBACK_TO" if kind == "ROLLBACK" else kind
    else:
        name = ""
    known = all(word in _TRANSACTION_WORDS or (not word and read.tokens[i].text == ",") for i, word in enumerate(words))
    if not known:
        return Utility(kind, ADMIN, problems=("transaction control of a form that is not known",))
    return Utility(kind, SESSION, name=name)


def read_two_phase(kind: str, read: StatementText) -> Utility:
    """PREPARE TRANSACTION 'id', COMMIT PREPARED 'id', ROLLBACK PREPARED 'id': what ran was decided when it ran."""
    name = literal_value(read.tokens[2:])
    if name is None and (len(read.tokens) != 3 or read.tokens[2].kind is not TokenKind.STRING):
        return Utility(kind, ADMIN, problems=("two-phase commit of a form that is not known",))
    return Utility(kind, WRITE, name=name or "")


def read_set(read: StatementText) -> Utility:
    words = read.words()
    at = 2 if words[1:2] in (["SESSION"], ["LOCAL"]) else 1
    if words[at:] == ["ROLE", "NONE"]:
        return Utility("SET", SESSION, name="role")  # back to who the gateway logged in as
    if words[at : at + 1] == ["TRANSACTION"] or words[at : at + 2] == ["CHARACTERISTICS", "AS"]:
        if "SNAPSHOT" in words:
            return Utility("SET", ADMIN, name="transaction snapshot", problems=("imports a snapshot",))
        return Utility("SET", SESSION, name="transaction")
    if words[at : at + 1] == ["CONSTRAINTS"]:
        return Utility("SET", SESSION, name="constraints")
    if words[at : at + 2] == ["TIME", "ZONE"]:
        return Utility("SET", SESSION, name="timezone")
    return _set_parameter(read, at)


def _set_parameter(read: StatementText, at: int) -> Utility:
    name = read.name_at(at)
    if read.words(at, at + 1) == ["NAMES"]:
        value = _value_text(read.tokens[at + 1 :]) if len(read.tokens) > at + 1 else "default"
    else:
        assigned = read.tokens[at + 1].text.upper() if at + 1 < len(read.tokens) else ""
        if assigned not in ("=", "TO"):
            return _setting_refused(name if read.words(at, at + 1)[0] in _ROLE_WORDS else "unknown")
        given = read.tokens[at + 2 :]
        value = _path_text(given) if name == "search_path" else _value_text(given)
    return Utility("SET", SESSION, name=name.lower()) if may_set(name, value) else _setting_refused(name)


_ROLE_WORDS = ("ROLE", "SCHEMA", "AUTHORIZATION")


def _path_text(tokens: list[Token]) -> str | None:
    """The schemas of a search path, comma-separated; None for anything odd. DEFAULT is what the session began with."""
    if [token.word for token in tokens] == ["DEFAULT"]:
        return ""
    names = [_value_text([token]) for token in tokens[::2]]
    if any(name is None or "," in name for name in names) or any(token.text != "," for token in tokens[1::2]):
        return None
    return ",".join(name.lower() if name is not None else "" for name in names)


def _setting_refused(name: str) -> Utility:
    return Utility(
        "SET",
        ADMIN,
        name=name.lower(),
        problems=("changes a setting that decides what statements mean, or is not known",),
    )


def _value_text(tokens: list[Token]) -> str | None:
    """A setting's single value; None for lists and anything odd."""
    if len(tokens) != 1:
        return None
    token = tokens[0]
    return literal_value([token]) if token.kind is TokenKind.STRING else token.text.strip('"')


def read_reset(read: StatementText) -> Utility:
    # Back to what the session began with, which the gateway chose.
    if read.words(1, 3) == ["SESSION", "AUTHORIZATION"] or read.words(1, 2) == ["ROLE"]:
        return _setting_refused("role")
    return Utility("RESET", SESSION, name=read.name_at(1).lower())


def read_show(read: StatementText) -> Utility:
    words = read.words()
    if words[1:] == ["ALL"]:
        return Utility("SHOW", SESSION, name="all", outputs=("name", "setting", "description"))
    name = "timezone" if words[1:3] == ["TIME", "ZONE"] else read.name_at(1)
    return Utility("SHOW", SESSION, name=name, outputs=(name,), row_bound=1)


def read_discard(read: StatementText) -> Utility:
    return Utility("DISCARD", SESSION, name=(read.words(1, 2) or [""])[0])


def read_listen(read: StatementText) -> Utility:
    """What is heard is shown as the rules say of each notification (`gateway.session.notifications`)."""
    kind, channel = read.tokens[0].word, read.name_at(1)
    if kind == "UNLISTEN":
        return Utility(kind, SESSION, name=channel)
    problems = () if channel and len(read.tokens) == 2 else ("LISTEN of a form that is not known",)
    return Utility(kind, LISTEN, name=channel, problems=problems)


def read_notify(read: StatementText) -> Utility:
    return Utility("NOTIFY", WRITE, name=read.name_at(1))
