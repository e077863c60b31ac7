"""COPY: what it moves, in which direction, and how its rows are framed (PostgreSQL, "COPY", "File Formats")."""

from __future__ import annotations

from analysis.lexer import Token, TokenKind
from analysis.literals import literal_value
from analysis.settings import may_set
from analysis.statement import CopyFormat
from analysis.utility_shape import ADMIN, READ, WRITE, StatementText, Utility, after_name, close_of


def read_copy(read: StatementText) -> Utility:
    if read.tokens[1:2] and read.tokens[1].text == "(":
        close = close_of(read, 1)
        query = read.text[read.tokens[1].end : read.tokens[close].start] if close < len(read.tokens) else ""
        return _copy_direction(read, close + 1, query, read.tokens[1].end, "")
    name_end = after_name(read, 1)
    columns, at = "*", name_end
    if at < len(read.tokens) and read.tokens[at].text == "(":
        close = close_of(read, at)
        columns = read.text[read.tokens[at].end : read.tokens[close].start] if close < len(read.tokens) else ""
        if any(
            token.kind not in (TokenKind.WORD, TokenKind.QUOTED) and token.text != ","
            for token in read.tokens[at + 1 : close]
        ):
            return Utility("COPY", ADMIN, problems=("COPY of a form that is not known",))
        at = close + 1
    table = read.text[read.tokens[1].start : read.tokens[name_end - 1].end] if len(read.tokens) > 1 else ""
    # COPY of a partitioned table's own rows is refused by the server; of any other it takes ONLY the named one.
    return _copy_direction(read, at, f"SELECT {columns}\nFROM ONLY {table}\n", -1, table)


def _copy_direction(read: StatementText, at: int, probe: str, offset: int, table: str) -> Utility:
    direction, place = (*read.words(at, at + 2), "", "")[:2]
    outwards = direction == "TO"
    kind = "COPY_TO" if outwards else "COPY_FROM"
    if place not in ("STDIN", "STDOUT"):
        return Utility(kind, ADMIN, export=outwards, problems=("COPY with a file or a program of the server",))
    framing, problems = _copy_format(read, at + 2)
    if direction == "FROM" and table:
        return Utility(kind, WRITE, probe=probe, problems=problems, writes_probed=True, copy=framing)
    if not outwards:
        return Utility("COPY", ADMIN, problems=("COPY of a form that is not known",))
    return Utility(
        kind,
        READ,
        probe=probe,
        probe_offset=offset,
        problems=problems,
        export=True,
        returns_probe=True,
        copy=framing,
    )


def _copy_format(read: StatementText, at: int) -> tuple[CopyFormat, tuple[str, ...]]:
    """The framing of the rows. What is not understood is a problem: a wire could not find the values to mask."""
    tokens = [token for token in read.tokens[at:] if token.text not in "(),"]
    options: dict[str, str] = {}
    index = 0
    while index < len(tokens):
        word = tokens[index].word
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if word in ("WITH", "AS"):
            pass
        elif word in ("CSV", "BINARY"):
            options["FORMAT"] = word.lower()
        elif word == "HEADER":
            value = following.word or following.text if following is not None else ""
            known = value in ("TRUE", "FALSE", "ON", "OFF", "MATCH", "0", "1")
            options["HEADER"] = "off" if value in ("FALSE", "OFF", "0") else "on"
            index += known
        elif word in ("FORMAT", "DELIMITER", "NULL", "QUOTE", "ESCAPE") and following is not None:
            if word != "FORMAT" and index + 2 < len(tokens) and following.word == "AS":
                index, following = index + 1, tokens[index + 2]
            chosen = _word_for(following)
            if chosen is None:
                return CopyFormat(), ("COPY with an option that is not known",)
            options[word] = chosen
            index += 1
        elif word == "FREEZE":
            index += following is not None and following.word in ("TRUE", "FALSE", "ON", "OFF")
        elif word == "ENCODING" and _is_utf8(following):
            index += 1
        elif word in ("ON_ERROR", "LOG_VERBOSITY", "REJECT_LIMIT") and following is not None:
            index += 1  # of COPY FROM: which rows are taken, not how they are framed
        else:
            return CopyFormat(), ("COPY with an option that is not known",)
        index += 1
    return _framing(options)


def _word_for(token: Token) -> str | None:
    """What the server takes an option's value for; None where it is not as it is written: `"5"` is 5, and so is 0x5.

    A frame that is believed to be another hides values from whatever masks them.
    """
    if token.kind is TokenKind.STRING:
        return literal_value([token])
    return token.text.lower() if token.kind is TokenKind.WORD and token.text.isascii() else None


def _is_utf8(token: Token | None) -> bool:
    if token is None:
        return False
    name = literal_value([token]) if token.kind is TokenKind.STRING else token.text
    return may_set("client_encoding", name) and name != "default"


def _framing(options: dict[str, str]) -> tuple[CopyFormat, tuple[str, ...]]:
    form = options.get("FORMAT", "text")
    if form not in ("text", "csv", "binary"):
        return CopyFormat(), ("COPY in a format that is not known",)
    quote = options.get("QUOTE", '"')
    return (
        CopyFormat(
            format=form,
            delimiter=options.get("DELIMITER", "," if form == "csv" else "\t"),
            null=options.get("NULL", "" if form == "csv" else "\\N"),
            header=options.get("HEADER") == "on",
            quote=quote,
            escape=options.get("ESCAPE", quote),
        ),
        (),
    )
