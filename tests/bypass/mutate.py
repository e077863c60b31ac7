"""The same attack in other clothes: blanks and comments, case, quotes, Unicode escapes, nesting, delivery.

One seed is one disguise. A mutation that breaks the statement costs nothing but its turn: what counts is that the
direct control still leaks (tests/bypass/test_mutated.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from analysis.lexer import Token, TokenKind, tokenize
from analysis.split import split_statements
from analysis.words import words

# Names of the canary schema that may be quoted or escaped wherever they stand.
NAMES = words(
    """
    id mrn first_name last_name ssn dob email phone address zip city note national_id account code payload tags
    patients encounters clinical_notes claims attack_identifiers attack_view
    """
)
BLANKS = ("\n", "\t", "\f", "\r\n", "  ", "/**/", "/* a /* b */ ' */", "-- '\n", "/*!*/", "/*+ x */", " -- ;\n ")
_READS = ("SELECT", "WITH", "VALUES", "TABLE")


class Disguise:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def steps(self, steps: tuple[str, ...]) -> tuple[str, ...]:
        """Every step disguised; a lone query may also be nested and delivered in another way."""
        wrapped = steps
        if len(steps) == 1 and self._is_one_read(steps[0]):
            if self.random.random() < 0.5:
                wrapped = (self._nested(steps[0]),)
            if self.random.random() < 0.35:
                wrapped = self._delivered(wrapped[0])
        return tuple(self._worded(step) for step in wrapped)

    def _is_one_read(self, text: str) -> bool:
        tokens = tokenize(text)
        return bool(tokens) and tokens[0].word in _READS and len(split_statements(text)) == 1

    # --- nesting and delivery ---

    def _nested(self, text: str) -> str:
        text = text.rstrip("; \n")
        return self.random.choice(
            [
                f"SELECT * FROM ({text}) n",
                f"SELECT n.* FROM ({text}) n, (VALUES (1)) one",
                f"SELECT n FROM ({text}) n",
                f"SELECT to_jsonb(n) FROM ({text}) n",
                f"WITH n AS ({text}) SELECT * FROM n",
                f"WITH n AS MATERIALIZED ({text}), m AS (TABLE n) SELECT m::text FROM m",
                f"WITH RECURSIVE n AS (({text}) UNION ALL SELECT * FROM n WHERE false) SELECT * FROM n",
                f"({text})",
                f"(({text}) LIMIT 50)",
                f"SELECT array_agg(n) FROM ({text}) n",
                f"SELECT string_agg(n::text, '') FROM ({text}) n",
                f"SELECT l.* FROM (VALUES (1)) one, LATERAL ({text}) l",
                f"SELECT (SELECT n FROM ({text}) n LIMIT 1)::text",
                f"SELECT * FROM ({text}) n UNION ALL SELECT * FROM ({text}) m",
                f"SELECT first_value(n::text) OVER () FROM ({text}) n",
                f"SELECT CASE WHEN true THEN n::text END FROM ({text}) n",
                f"VALUES ((SELECT n::text FROM ({text}) n LIMIT 1), 1)",
                f"SELECT DISTINCT ON (1) n::text FROM ({text}) n ORDER BY 1",
                f"SELECT * FROM json_each_text((SELECT to_json(n) FROM ({text}) n LIMIT 1))",
                f"SELECT * FROM unnest(ARRAY(SELECT n::text FROM ({text}) n)) WITH ORDINALITY",
                f"SELECT xmlforest(n::text AS a) FROM ({text}) n",
                f"SELECT n.* FROM ({text}) n GROUP BY n.*, n",
            ]
        )

    def _delivered(self, text: str) -> tuple[str, ...]:
        ways: list[tuple[str, ...]] = [
            (f"COPY ({text}) TO STDOUT",),
            (f"COPY ({text}) TO STDOUT (FORMAT csv, HEADER)",),
            ("BEGIN", f"DECLARE loot CURSOR FOR {text}", "FETCH ALL FROM loot", "COMMIT"),
            (f"PREPARE loot AS {text}", "EXECUTE loot", "DEALLOCATE loot"),
            (f"CREATE TEMP TABLE loot AS {text}", "TABLE loot"),
            ("BEGIN", f"CREATE TEMP VIEW loot AS {text}", "SELECT * FROM loot", "ROLLBACK"),
            (f"SELECT 1; {text}",),
            (f"EXPLAIN (ANALYZE, COSTS OFF) {text}", text),
        ]
        return self.random.choice(ways)

    # --- words ---

    def _worded(self, text: str) -> str:
        tokens, parts, at = tokenize(text), [], 0
        for token in tokens:
            gap = text[at : token.start]
            parts.append(self._blank() if gap.isspace() and self.random.random() < 0.4 else gap)
            parts.append(self._token(token))
            at = token.end
        return "".join(parts) + text[at:]

    def _blank(self) -> str:
        return " ".join(("", *self.random.choices(BLANKS, k=self.random.randint(1, 2)), ""))

    def _token(self, token: Token) -> str:
        if token.kind is not TokenKind.WORD or self.random.random() < 0.4:
            return token.text
        name = token.text
        if name in NAMES:
            change: Callable[[str], str] = self.random.choice([_quoted, self._escaped, self._escaped, self._cased])
            return change(name)
        return self._cased(name) if name.isascii() else name

    def _cased(self, word: str) -> str:
        return "".join(self.random.choice((c.upper(), c.lower())) for c in word)

    def _escaped(self, name: str) -> str:
        at = self.random.randrange(len(name))
        long, sign = self.random.random() < 0.5, self.random.choice("\\!")
        code = f"{sign}+{ord(name[at]):06x}" if long else f"{sign}{ord(name[at]):04X}"
        quoted = f'{self.random.choice("uU")}&"{name[:at]}{code}{name[at + 1 :]}"'
        return quoted if sign == "\\" else f"{quoted} UESCAPE '!'"


def _quoted(name: str) -> str:
    return f'"{name}"'
