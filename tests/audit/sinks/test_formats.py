"""What each format makes of an entry: valid against the published schema, and without anything sensitive."""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from typing import Any

import jsonschema
import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from audit.domain.kinds import KINDS
from audit.sinks import cef, cloud_logging, fhir, ocsf, plain, syslog
from audit.sinks.event import SEVERITIES, WITHHELD, Severity, forwarded
from audit.sinks.formats import FORMATS
from tests.audit.sinks.samples import BODIES, CANARY, CANARY_WORD, LOG, event, every_event


@lru_cache(maxsize=1)
def schemas() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.3.0"))


@lru_cache(maxsize=32)
def validator(class_uid: int, profiles: tuple[str, ...]) -> Any:
    name = schemas().lookup_class_name_from_uid(class_uid)
    return jsonschema.Draft202012Validator(schemas().get_class_schema(name, list(profiles)))


def problems(value: dict[str, Any]) -> list[str]:
    profiles = tuple(value["metadata"].get("profiles", ()))
    return [error.message for error in validator(value["class_uid"], profiles).iter_errors(value)]


@pytest.mark.parametrize("kind", KINDS)
def test_ocsf_of_every_kind_is_valid_against_the_schema_of_its_class(kind):
    assert problems(ocsf.as_ocsf(event(kind))) == []


def test_the_schema_does_find_what_is_wrong():
    value = ocsf.as_ocsf(event("statement.completed"))
    del value["actor"]
    value["activity_id"] = "five"

    assert len(problems(value)) >= 2


def test_ocsf_says_who_did_what_with_which_table():
    value = ocsf.as_ocsf(event("statement.authorised"))

    assert (value["class_uid"], value["activity_name"], value["type_uid"]) == (6005, "Query", 600504)
    assert (value["actor"]["user"]["name"], value["actor"]["app_name"]) == ("demo-agent", "copilot")
    assert (value["database"]["name"], value["table"]["name"]) == ("clinic", "public.patients")
    assert value["metadata"]["uid"] == "00112233445566aa-5"


@pytest.mark.parametrize(
    ("kind", "action"), [("statement.denied", "Denied"), ("statement.held", "Held for review"),
                         ("statement.completed", "Allowed")],
)  # fmt: skip
def test_ocsf_tells_a_denied_statement_from_one_that_ran(kind, action):
    assert ocsf.as_ocsf(event(kind))["action"] == action


@pytest.mark.parametrize("kind", KINDS)
def test_fhir_of_every_kind_is_an_audit_event(kind):
    resource = AuditEvent.model_validate_json(fhir.encode(event(kind)))

    assert resource.id == "00112233445566aa-5"


def test_fhir_model_does_find_what_is_wrong():
    value = fhir.as_audit_event(event("statement.completed"))
    del value["source"]

    with pytest.raises(ValueError, match="source"):
        AuditEvent.model_validate_json(json.dumps(value))


def test_fhir_of_a_statement_follows_the_query_profile():
    """The constraints of IHE.BasicAudit.Query 1.1.4, one by one: no package carries the profile itself."""
    value = fhir.as_audit_event(event("statement.completed"))

    assert value["meta"]["profile"] == [fhir.QUERY_PROFILE]
    assert (value["type"]["code"], value["action"], value["outcome"]) == ("rest", "E", "0")
    assert "search" in {code["code"] for code in value["subtype"]}
    agents = {agent["type"]["coding"][0]["code"]: agent for agent in value["agent"]}
    assert {"110153", "110152", "IRCP"} == set(agents)
    assert [agent["requestor"] for agent in agents.values()].count(True) == 1
    (query,) = [entity for entity in value["entity"] if entity["role"]["code"] == "24"]
    assert query["type"]["code"] == "2"
    assert "name" not in query  # sev-1: a name or a query
    assert base64.b64decode(query["query"]) == f"statement st-1; its text is sealed in {LOG}".encode()


def test_fhir_of_a_refused_statement_claims_no_profile_of_a_successful_query():
    value = fhir.as_audit_event(event("statement.denied"))

    assert ("meta" in value, value["outcome"]) == (False, "4")


def test_fhir_batch_is_a_bundle_that_puts_each_event_under_its_own_id():
    texts = [fhir.encode(each) for each in every_event()]

    bundle = Bundle.model_validate_json(fhir.as_batch(texts))

    assert [entry.request.url for entry in bundle.entry][:2] == [
        "AuditEvent/00112233445566aa-1",
        "AuditEvent/00112233445566aa-2",
    ]


HEADER = re.compile(r"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) (.*)", re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_syslog_has_the_fields_of_rfc_5424(kind):
    one = event(kind)

    match = HEADER.fullmatch(syslog.message(one, syslog.encode(one), host="hoopweb.example", structured=True).decode())

    assert match is not None
    priority, moment, host, app, process, message_id, rest = match.groups()
    assert int(priority) // 8 == syslog.FACILITY
    assert (moment, host, app, process) == ("2026-09-21T14:13:20.123456Z", "hoopweb.example", "hoopweb", "gw-1")
    assert message_id == kind[:32]
    assert rest.startswith(f'[{syslog.ELEMENT} id="00112233445566aa-5" seq="5"')
    assert rest.endswith(f"] \ufeff{kind}")


def test_syslog_escapes_what_would_end_a_parameter():
    one = event("session.closed", {"subject": 'a"b]c\\d', "reason": "x"})

    assert 'subject="a\\"b\\]c\\\\d"' in syslog.encode(one)


def test_frames_count_octets_not_characters():
    assert syslog.framed("é".encode()) == b"2 \xc3\xa9"


def test_cef_escapes_pipes_in_its_header_and_equals_signs_in_its_extension():
    text = cef.encode(event("session.closed", {"subject": "a=b|c\\d\ne", "reason": "left"}))

    head, _, extension = text.partition("|1|")
    assert head.count("|") == 5
    assert "suser=a\\=b|c\\\\d e" in extension


def test_cef_puts_severity_and_stable_id():
    text = cef.encode(event("statement.denied"))

    assert re.search(r"\|5\|rt=1790000000123 externalId=00112233445566aa-5 suser=demo-agent", text)


def test_cloud_logging_has_an_insert_id_and_the_shape_of_an_audit_log():
    value = json.loads(cloud_logging.as_write([cloud_logging.encode(event("statement.denied"))]))

    (entry,) = value["entries"]
    assert (entry["insertId"], entry["severity"]) == ("00112233445566aa-5", "WARNING")
    assert entry["jsonPayload"]["methodName"] == "statement.denied"
    assert entry["jsonPayload"]["status"] == {"code": 7}


def test_nothing_a_client_may_choose_leaves_in_any_format():
    everything = json.dumps(BODIES)
    assert CANARY in everything  # the control: the entries do hold them
    assert CANARY_WORD in everything

    for name, spec in FORMATS.items():
        texts = [spec.encode(each) for each in every_event()]
        decoded = "".join(texts) + "".join(
            base64.b64decode(found).decode() for found in re.findall(r'"query":"([^"]+)"', "".join(texts))
        )
        assert CANARY not in decoded, name
        assert CANARY_WORD not in decoded, name


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"statement": "select 1", "parameters": ["4711"]}, {}),
        ({"columns_read": [f'public."{CANARY}"', "a.b.ssn"]}, {"columns_read": [WITHHELD, "a.b.ssn"]}),
        ({"claimed_subject": "reviewer2"}, {"claimed_subject": "reviewer2"}),
        ({"claimed_subject": "hunter2!x"}, {}),
        ({"subject": "a\x00b\nc"}, {"subject": "a b c"}),
        ({"rows": "many", "tables_read": "t", "masked": [{"column": "x"}]}, {"masked": []}),
    ],
)  # fmt: skip
def test_only_known_fields_of_their_shape_leave(body, left):
    assert forwarded(body) == left


def test_breaking_the_glass_is_severe_and_says_whether_masks_were_lifted():
    used = event("emergency.used", {"subject": "ann", "emergency": "e-1", "roster": "on-call", "masks": "lifted"})

    assert used.severity is Severity.HIGH
    assert event("emergency.opened").severity is Severity.HIGH
    told = json.loads(ocsf.encode(used))["unmapped"]
    assert (told["emergency"], told["roster"], told["masks"]) == ("e-1", "on-call", "lifted")


def test_every_kind_with_a_severity_is_one_that_exists():
    assert set(SEVERITIES) <= set(KINDS)


def test_damage_is_critical():
    assert event("log.damage_found").severity is Severity.CRITICAL
    assert json.loads(plain.encode(event("log.damage_found")))["severity"] == "critical"
