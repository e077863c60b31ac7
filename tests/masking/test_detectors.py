# ruff: noqa: RUF001 - look-alike characters are what these cases are about
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masking.detectors.checks import is_card, is_dea, is_iban, is_issued_ssn, is_mbi, is_npi, is_vin
from masking.detectors.text import detect, mask
from tests.turn import examples

# (text, what must be covered, class)
FOUND = [
    # names
    ("Seen by Dr. Okonkwo today", "Okonkwo", "name"),
    ("Mr. D. Jones called", "D. Jones", "name"),
    ("Patient: Maria Garcia, stable", "Maria Garcia", "name"),
    ("patient Ngozi Adeyemi, 54 years", "Ngozi Adeyemi", "name"),
    ("a 60-year-old woman, Ewelina Brzozka, seen for pain", "Ewelina Brzozka", "name"),
    ("treated Daniel R. for gout", "Daniel R.", "name"),
    ("Garcia, Maria L. was discharged", "Garcia, Maria L.", "name"),
    ("on file for Blackwood, Anne today", "Blackwood, Anne", "name"),
    ("SMITH, JOHN admitted", "SMITH, JOHN", "name"),
    ("pt john smith reports pain", "john smith", "name"),
    ("JENNIFER LOPEZ reports pain", "JENNIFER LOPEZ", "name"),
    ("her husband Robert drove", "Robert", "name"),
    ("referred by O'Brien", "O'Brien", "name"),
    ("José Martínez returned", "José Martínez", "name"),
    ("Nurse Kelly called", "Kelly", "name"),
    ("Ｍaria Ｇarcia came in", "Ｍaria Ｇarcia", "name"),
    ("Ma\u00adria Gar\u200bcia came in", "Ma\u00adria Gar\u200bcia", "name"),
    ("the patient Tom Wilson improved", "Tom Wilson", "name"),
    ("Dr. Parkinson will call", "Parkinson", "name"),
    ("a 70-year-old male, Thomas Green, admitted", "Thomas Green", "name"),
    ("a 10-year-old female patient, Emily Clark, seen", "Emily Clark", "name"),
    ("pt's name Wanjiru Mwangi, stable", "Wanjiru Mwangi", "name"),
    ("see Gurpreet's notes from then", "Gurpreet", "name"),
    # places
    ("who lives in the Petaluma area", "Petaluma", "location"),
    ("seen @ Kalispell on Monday", "Kalispell", "location"),
    ("admitted to Lakeview Regional Hospital", "Lakeview Regional Hospital", "location"),
    ("seen at St. Agnes Clinic", "St. Agnes Clinic", "location"),
    ("transferred to UMass Memorial", "UMass Memorial", "location"),
    ("lives at 42 Elm Street, Apt 3, Springfield, IL 62704", "42 Elm Street, Apt 3, Springfield, IL 62704", "location"),
    ("moved to Tulsa", "Tulsa", "location"),
    ("from Bozeman, MT", "Bozeman, MT", "location"),
    ("zip code 02139", "02139", "location"),
    ("P.O. Box 1234", "P.O. Box 1234", "location"),
    # dates and ages
    ("on March 3rd, 2023", "March 3rd, 2023", "date"),
    ("on 3 March 2023", "3 March 2023", "date"),
    ("in July 2021", "July 2021", "date"),
    ("on 03/05/2023", "03/05/2023", "date"),
    ("on 3-5-23", "3-5-23", "date"),
    ("on 2023-03-05", "2023-03-05", "date"),
    ("at 2023-03-05T10:11:12Z", "2023-03-05T10:11:12Z", "date"),
    ("on 05.03.1962", "05.03.1962", "date"),
    ("DOB 19620305", "19620305", "date"),
    ("on 05-Mar-1962", "05-Mar-1962", "date"),
    ("Aug 10, '23", "Aug 10, '23", "date"),
    ("DOB: 03/05", "03/05", "date"),
    ("on ０３／０５／２０２３", "０３／０５／２０２３", "date"),
    ("Maria Garcia was seen last Tuesday", "last Tuesday", "date"),
    ("a 93-year-old man", "93-year-old", "age"),
    ("aged 102", "102", "age"),
    ("a ninety-four year old woman", "ninety-four year old", "age"),
    # contact
    ("call 555-123-4567", "555-123-4567", "phone"),
    ("call (555) 123-4567 x22", "(555) 123-4567 x22", "phone"),
    ("call 555.123.4567", "555.123.4567", "phone"),
    ("+44 20 7946 0958", "+44 20 7946 0958", "phone"),
    ("fax: 650-123-4567", "650-123-4567", "fax"),
    ("mail maria.garcia+x@example.co.uk now", "maria.garcia+x@example.co.uk", "email"),
    ("maria [at] example [dot] com", "maria [at] example [dot] com", "email"),
    ("https://portal.example.com/p?id=7", "https://portal.example.com/p?id=7", "url"),
    ("from 10.12.13.14", "10.12.13.14", "ip"),
    ("from 2001:db8::8a2e:370:7334", "2001:db8::8a2e:370:7334", "ip"),
    ("00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E", "mac"),
    # numbers
    ("SSN 123-45-6789", "123-45-6789", "ssn"),
    ("SSN 123456789", "123456789", "ssn"),
    ("ssn: 123 45 6789", "123 45 6789", "ssn"),
    ("123‑45‑6789", "123‑45‑6789", "ssn"),  # non-breaking hyphens
    ("１２３－４５－６７８９", "１２３－４５－６７８９", "ssn"),
    ("١٢٣-٤٥-٦٧٨٩", "١٢٣-٤٥-٦٧٨٩", "ssn"),
    ("123\u200b-45-\u200b6789", "123\u200b-45-\u200b6789", "ssn"),
    ("social security 000-12-3456", "000-12-3456", "ssn"),  # never issued, still somebody's typing
    ("MRN: 12345", "12345", "mrn"),
    ("medical record number is AB-99812", "AB-99812", "mrn"),
    ("policy #XK-4432", "XK-4432", "health_plan"),
    ("1EG4-TE5-MK73", "1EG4-TE5-MK73", "mbi"),
    ("NPI 1234567893", "1234567893", "licence"),
    ("DEA AB1234563", "AB1234563", "licence"),
    ("VIN 1M8GDM9AXKP042788", "1M8GDM9AXKP042788", "vin"),
    ("GB29 NWBK 6016 1331 9268 19", "GB29 NWBK 6016 1331 9268 19", "iban"),
    ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "card"),
    ("account no. 8841-22", "8841-22", "account"),
    ("pacemaker serial PMK88123X", "PMK88123X", "device"),
]

CLEAN = [
    "Crohn's disease and Parkinson's disease with Lewy body dementia",
    "Hodgkin lymphoma, Wilson's disease, Graves' disease and Cushing's syndrome",
    "a positive Chaddock reflex and a Gleason score of 7",
    "Framingham risk score, Wells criteria, Child-Pugh class B, Glasgow Coma Scale 15",
    "What do the AHA, ACC and NICE guidelines recommend?",
    "Effectiveness of Dapagliflozin vs. Empagliflozin in the DAPA-HF trial",
    "Metformin 500 mg twice daily, HbA1c 7.2%, eGFR 45 mL/min/1.73m2",
    "BP 120/80, pulse 72, temperature 98.6, SpO2 97%",
    "hepatitis B. Vitamin D. Influenza A.",
    "a 55-year-old African American male diagnosed in 2019",
    "diagnosed last year with Type 2 diabetes",
    "Marfan syndrome, Kawasaki disease, Lyme disease, Sjogren's syndrome",
    "COVID-19, SARS-CoV-2, BRCA1, HER2, CD34, IL-6, ICD-10, T2DM",
    "The patient may have asthma; will monitor and mark the site",
    "ratio 3/4, dose 1/2 tablet, strength 10-20 mg, weeks 4-6",
    "Emergency Department, Intensive Care Unit and a community clinic",
    "living in California, treated in the southern United States",
    "platelets 150,000; white cells 4.5; glucose 180",
    "Foley catheter and Holter monitor placed; Ringer lactate given",
]


@pytest.mark.parametrize(("text", "identifier", "cls"), FOUND, ids=[row[1] for row in FOUND])
def test_identifier_is_covered(text: str, identifier: str, cls: str) -> None:
    start = text.index(identifier)
    covered = {index for span in detect(text) for index in range(span.start, span.end)}

    assert set(range(start, start + len(identifier))) <= covered
    assert cls in {span.cls for span in detect(text) if span.start < start + len(identifier) and start < span.end}
    assert identifier not in mask(text)


@pytest.mark.parametrize("text", CLEAN)
def test_clinical_prose_is_left_alone(text: str) -> None:
    assert [(text[span.start : span.end], span.cls) for span in detect(text)] == []
    assert mask(text) is text


@pytest.mark.parametrize("text", [row[0] for row in FOUND])
def test_masking_is_stable(text: str) -> None:
    once = mask(text)

    assert mask(once) == once


def test_spans_are_disjoint_and_ordered() -> None:
    spans = detect(" ".join(row[0] for row in FOUND))

    assert all(first.end <= second.start for first, second in pairwise(spans))


def test_a_long_document_is_scanned_to_its_end() -> None:
    text = "the lungs are clear. " * 5000 + "Seen by Maria Garcia, SSN 123-45-6789."

    masked = mask(text)

    assert "Garcia" not in masked
    assert "6789" not in masked


@pytest.mark.parametrize(
    "text", ["(" * 5000, "1-" * 5000, "A. " * 5000, "Aa " * 5000, "a@" * 5000, ":" * 5000, "St. " * 5000]
)
@pytest.mark.timeout(20)
def test_repetition_does_not_stall(text: str) -> None:
    detect(text)


def test_a_failing_check_digit_lowers_the_score_and_never_clears() -> None:
    (valid,) = detect("card 4111 1111 1111 1111")
    (invalid,) = detect("card 4111 1111 1111 1112")

    assert valid.score > invalid.score


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_card, "4111 1111 1111 1111", "4111 1111 1111 1112"),
        (is_iban, "GB29 NWBK 6016 1331 9268 19", "GB30 NWBK 6016 1331 9268 19"),
        (is_npi, "1234567893", "1234567890"),
        (is_dea, "AB1234563", "AB1234560"),
        (is_vin, "1M8GDM9AXKP042788", "1M8GDM9A1KP042788"),
        (is_mbi, "1EG4-TE5-MK73", "1EG4-TE5-SK73"),
        (is_issued_ssn, "123-45-6789", "666-45-6789"),
    ],
)
def test_check_digits(check, good: str, bad: str) -> None:  # type: ignore[no-untyped-def]
    assert check(good)
    assert not check(bad)


@given(text=st.text(max_size=300) | st.text(alphabet="AaDr. 0123-/'@:,#MRNjohnsmith\u200b\uff11", max_size=200))
@settings(max_examples=examples(300), deadline=None)
def test_any_text_gives_ordered_spans_within_it(text: str) -> None:
    spans = detect(text)

    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(first.end <= second.start for first, second in pairwise(spans))
