"""A long statement is lexed once, and nothing that takes time by its length is done on the event loop."""

from __future__ import annotations

import threading

import pytest

from analysis import lexer
from analysis.lexer import ReadLexeme, Token
from tests.gateway.listeners.harness import Gateway
from tests.gateway.listeners.raw import SYNC, RawClient, bind, execute, parse, query, rows

LONG = f"SELECT id FROM people WHERE id IN ({', '.join(map(str, range(5_000, 13_000)))}, 7)"
VALUES = f"SELECT n FROM (VALUES {', '.join(f'({n})' for n in range(8_000))}) AS v (n) WHERE n = 7"


class Passes:
    """Over long texts: how often each was lexed, and in which threads it was looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lexed: list[str] = []
        self.threads: set[int] = set()
        read_tokens = lexer.read_tokens

        def counted(text: str, standard: bool, tokens: list[Token], most: int, read: ReadLexeme) -> None:
            if len(text) > 20_000:
                self.lexed.append(text)
                self.threads.add(threading.get_ident())
            read_tokens(text, standard, tokens, most, read)

        monkeypatch.setattr(lexer, "read_tokens", counted)
        lexer._remembered_long.cache_clear()


@pytest.mark.parametrize("text", [LONG, VALUES], ids=["in", "values"])
@pytest.mark.parametrize("end", ["", ";"])
async def test_simple_query_is_lexed_once_beside_the_loop(
    reading_gateway: Gateway, monkeypatch: pytest.MonkeyPatch, text: str, end: str
) -> None:
    raw = await RawClient.connect(reading_gateway)
    passes = Passes(monkeypatch)

    got = await raw.ask(query(text + end))
    raw.close()

    assert rows(got) == [[b"7"]]
    assert passes.lexed == ([text] if not end else [text + end, text])
    assert threading.get_ident() not in passes.threads


async def test_parsed_statement_is_lexed_once_beside_the_loop(
    reading_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = await RawClient.connect(reading_gateway)
    passes = Passes(monkeypatch)

    got = await raw.ask(parse(LONG), bind(), execute(), SYNC)
    raw.close()

    assert rows(got) == [[b"7"]]
    assert passes.lexed == [LONG]
    assert threading.get_ident() not in passes.threads
