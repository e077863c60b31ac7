from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from masking.detectors.text import detect
from tests.masking.asq_phi import DEVELOPMENT_HALF, records

pytestmark = pytest.mark.skipif(
    not DEVELOPMENT_HALF.exists(), reason="the ASQ-PHI development half is not beside this checkout"
)
LEAST_RECALL = 0.97
MOST_OVER_REDACTION = 0.15


def covered(text: str, value: str) -> bool:
    """Whether every occurrence of the value lies wholly under spans (blanks aside)."""
    under = {index for span in detect(text) for index in range(span.start, span.end)}
    start = text.find(value)
    while start >= 0:
        if any(index not in under and not text[index].isspace() for index in range(start, start + len(value))):
            return False
        start = text.find(value, start + 1)
    return True


def test_recall_per_identifier_type() -> None:
    total: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for record in records():
        for kind, value in record.identifiers:
            total[kind] += 1
            found[kind] += covered(record.text, value)

    recall = {kind: found[kind] / total[kind] for kind in total}
    print({kind: round(value, 3) for kind, value in recall.items()})
    assert found.total() / total.total() >= LEAST_RECALL
    assert min(recall.values()) >= LEAST_RECALL


def test_over_redaction_of_queries_without_identifiers() -> None:
    negatives = [record.text for record in records() if not record.identifiers]

    touched = sum(bool(detect(text)) for text in negatives)

    print(f"{touched} of {len(negatives)} queries without identifiers were changed")
    assert touched / len(negatives) <= MOST_OVER_REDACTION


UNLISTED_GIVEN = [
    "Thandiwe",
    "Oluwaseun",
    "Xiomara",
    "Siobhan",
    "Anneliese",
    "Saoirse",
    "Kwabena",
    "Zbigniew",
    "Ottoline",
    "Nehemiah",
    *[
        "Wanjiru",
        "Tendai",
        "Bronwen",
        "Aoife",
        "Ragnhild",
        "Ximena",
        "Yevgenia",
        "Chidinma",
        "Parvaneh",
        "Takumi",
        "Oyuki",
        "Ludovica",
        "Guilherme",
    ],
    *[
        "Sunniva",
        "Vasiliki",
        "Bohdan",
        "Mirela",
        "Zeynep",
        "Nasrin",
        "Gurpreet",
        "Lakshmi",
        "Haruki",
        "Tomasz",
        "Agnieszka",
        "Sigrid",
    ],
]
UNLISTED_FAMILY = [
    "Mkhabela",
    "Adebayo",
    "Lindqvist",
    "Quispe",
    "Wojcik",
    "Babatunde",
    "Szymanski",
    "Oyelaran",
    "Ostrowski",
    "Pemberton",
    *[
        "Mwangi",
        "Chikwanda",
        "Llewellyn",
        "Halvorsen",
        "Etxeberria",
        "Sokolova",
        "Tsai",
        "Okonjo",
        "Rahimi",
        "Kurosawa",
        "Vandermeer",
    ],
    *[
        "Teixeira",
        "Baumgartner",
        "Papadopoulos",
        "Shevchenko",
        "Ionescu",
        "Yildirim",
        "Chowdhury",
        "Sandhu",
        "Deshpande",
        "Zhao",
    ],
]
UNLISTED_TOWNS = ["Ypsilanti", "Chillicothe", "Kenosha", "Bozeman", "Muncie", "Yakima", "Tupelo", "Maplewood"]
UNLISTED_TOWNS += [
    "Winnemucca",
    "Sheboygan",
    "Kalispell",
    "Poughkeepsie",
    "Wenatchee",
    "Natchitoches",
    "Cuernavaca",
    "Ballarat",
]
UNLISTED_TOWNS += [
    "Wolverhampton",
    "Uppsala",
    "Kumasi",
    "Brno",
    "Salamanca",
    "Aarhus",
    "Petaluma",
    "Hoboken",
    "Zanesville",
]
FACILITIES = (
    "{} Regional Hospital",
    "{} Clinic",
    "{} Medical Center",
    "{}",
    "{} clinic",
    "{} Memorial Hospital",
    "{} Family Practice",
    "{} Urgent Care",
    "{}, OR",
)


def stranger(name: str, chance: random.Random) -> str:
    """A name of the same shape that no word list holds."""
    given, family = chance.choice(UNLISTED_GIVEN), chance.choice(UNLISTED_FAMILY)
    title = re.match(r"(?:Dr|Mr|Mrs|Ms)\. ", name)
    bare = name[title.end() :] if title else name
    shape = f"{given} {family[0]}." if bare.endswith(".") else f"{given} {family}" if " " in bare else family
    return (title[0] if title else "") + shape


def test_words_no_list_holds_are_found_by_their_surroundings() -> None:
    chance = random.Random(20261120)
    total = found = 0
    for record in records():
        for kind, value in record.identifiers:
            if kind == "NAME" and " " in value:
                other = stranger(value, chance)
            elif kind == "GEOGRAPHIC_LOCATION":
                other = chance.choice(FACILITIES).format(chance.choice(UNLISTED_TOWNS))
            else:
                continue
            total += 1
            found += covered(record.text.replace(value, other), other)

    print(f"{found} of {total} names and places unknown to the word lists were found")
    assert found / total >= LEAST_RECALL
