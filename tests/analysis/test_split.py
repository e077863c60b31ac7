from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.lexer import LexError, tokenize
from analysis.split import split_statements


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" ; ;; -- nothing\n", []),
        ("-- nothing", []),
        (" select 1 -- one\n", [" select 1 -- one\n"]),
        ("select 1", ["select 1"]),
        ("select 1; select 2;", ["select 1", " select 2"]),
        ("select ';'; select 2", ["select ';'", " select 2"]),
        ("select 'it''s;'; select 2", ["select 'it''s;'", " select 2"]),
        (r"select '\'; select 2", [r"select '\'", " select 2"]),
        (r"select E'\';'; select 2", [r"select E'\';'", " select 2"]),
        ("select E'a'\n'\\';'; select 2", ["select E'a'\n'\\';'", " select 2"]),
        ("select $$;$$, $a$;$$;$a$; select 2", ["select $$;$$, $a$;$$;$a$", " select 2"]),
        ("select a$$; b$$", ["select a$$", " b$$"]),
        ("select $1$$;$$", ["select $1$$;$$"]),
        ('select "a;""b"; x', ['select "a;""b"', " x"]),
        ("select U&'\\';' || U&\"a;\"", ["select U&'\\'", "' || U&\"a;\""]),
        ("/* ; /* ; */ ; */ select 1; x", ["/* ; /* ; */ ; */ select 1", " x"]),
        ("select 1 -- ; \n; x", ["select 1 -- ; \n", " x"]),
        ("select 1 +-- ;\n 2; x", ["select 1 +-- ;\n 2", " x"]),
        ("select\u00a0;1", ["select\u00a0", "1"]),
        ("create rule r as on insert to t do (select 1; select 2); x",
         ["create rule r as on insert to t do (select 1; select 2)", " x"]),
        ("create function f() returns int begin atomic select case when true then 1 end; select 2; end; x",
         ["create function f() returns int begin atomic select case when true then 1 end; select 2; end", " x"]),
        ("begin; end; select 1", ["begin", " end", " select 1"]),
    ],
)  # fmt: skip
def test_split_cuts_where_the_server_does(text: str, parts: list[str]) -> None:
    found = split_statements(text)

    if "U&" in text:
        assert [part.lexable for part in found] == [False]
        return
    assert [part.text for part in found] == parts
    assert all(part.lexable and text[part.offset :].startswith(part.text) for part in found)


def test_split_follows_backslashes_when_strings_do_not_conform() -> None:
    text = r"select 'a\'; b'; x"

    assert [part.text for part in split_statements(text, standard_conforming_strings=False)] == [
        r"select 'a\'; b'",
        " x",
    ]


@pytest.mark.parametrize(
    "text", ["select 'a", 'select "a', "/* /* */", "$a$ $b$", "a\x00b", "select E'\\'", 'select ""']
)
def test_split_never_believes_what_it_cannot_lex(text: str) -> None:
    assert [(part.text, part.lexable) for part in split_statements(text)] == [(text, False)]


@given(st.text(alphabet="aE'\"$;-/*\\ \n()U&x1", max_size=60))
def test_split_parts_are_substrings_in_order_and_cover_every_token(text: str) -> None:
    parts = split_statements(text)

    if any(not part.lexable for part in parts):
        with pytest.raises(LexError):
            tokenize(text)
        return
    at = 0
    for part in parts:
        assert part.offset >= at
        assert text[part.offset : part.offset + len(part.text)] == part.text
        at = part.offset + len(part.text)
    words = [token.text for token in tokenize(text) if token.text != ";"]
    again = [token.text for part in parts for token in tokenize(part.text) if token.text != ";"]
    assert again == words


@pytest.mark.parametrize(
    "text", ["select 1 " + "/**/" * 101, "select 1 " + "/*" * 101 + "*/" * 101, "select 1 " + "+/**/" * 101]
)
def test_comments_the_server_would_scan_again_and_again_are_not_read(text: str) -> None:
    """PostgreSQL's scanner is quadratic in them, and nothing interrupts it: a megabyte takes it minutes."""
    with pytest.raises(LexError, match="comments with nothing but operators"):
        tokenize(text)


def test_many_comments_apart_and_long_banners_are_read() -> None:
    assert len(tokenize("select 1 " + "/* a */ " * 1_000)) == 2
    assert len(tokenize("/*" + "*" * 5_000 + "*/ select 1 " + "-" * 5_000)) == 2
