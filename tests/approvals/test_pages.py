"""The reviewers' pages: what is shown to whom, what a POST does, and that nothing else does anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.domain import hooks
from approvals.domain.grant import claim_grant
from approvals.domain.links import find_link, issue_link
from approvals.domain.notices import review_notice
from approvals.domain.refusal import Refusal
from approvals.domain.request import ReviewerGroup
from approvals.domain.review import decide_review
from approvals.emails import mail_reviewers
from approvals.models import Grant, Review, ReviewLink, Vote
from approvals.tasks import notify_reviewers
from audit.models import LogEntry
from tests.approvals.factories import UPDATE, binding, held, person, write_request

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]
BETTER = "UPDATE patients\n SET phone = NULL\n WHERE id = 7"


def browser(user=None, **known):
    client = Client(**known)
    if user is not None:
        client.force_login(user)
    return client


def post(client, address, decision="approve", **more):
    return client.post(address, {"decision": decision, "reason": "looked at it", "round": 1, **more})


def nothing_happened():
    return not Vote.objects.exists() and not Grant.objects.exists() and Review.objects.get().status == "pending"


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_pages_send_strangers_to_sign_in():
    review = held()

    for address in (reverse("approvals:inbox"), review.get_absolute_url(), reverse("approvals:link", args=["x"])):
        answer = browser().get(address)
        assert (answer.status_code, "/login" in answer["Location"]) == (302, True)


def test_review_is_shown_to_its_reviewers_and_auditors_only(reviewer):
    review = held()
    auditor, outsider = person("auditor", "auditors"), person("outsider", "data-stewards")

    assert UPDATE.split()[0] in browser(reviewer).get(review.get_absolute_url()).text
    assert browser(auditor).get(review.get_absolute_url()).status_code == 200
    assert browser(outsider).get(review.get_absolute_url()).status_code == 404
    assert str(review.pk) not in browser(outsider).get(reverse("approvals:inbox")).text


def test_review_offers_no_buttons_to_the_requesters_human(admin, reviewer):
    review = held()

    assert 'value="approve"' in browser(reviewer).get(review.get_absolute_url()).text
    own = browser(admin).get(review.get_absolute_url()).text
    assert 'value="approve"' not in own
    assert "never decide on their own request" in own


def test_review_shows_whitespace_and_hidden_characters_as_they_are(reviewer):
    review = held(statement="UPDATE patients\n   SET note = 'a\u202eb<script>'\n\n\nWHERE id = 7")

    page = browser(reviewer).get(review.get_absolute_url()).text

    figure = page.split('aria-label="Statement">')[1].split("</div>")[0]
    assert figure.count('<span class="l">') == 5
    assert '<span class="l">   <span class="keyword">SET</span>' in figure
    assert '<span class="mark" title="U+202E RIGHT-TO-LEFT OVERRIDE">⟨U+202E⟩</span>' in figure
    assert "\u202e" not in figure
    assert "<script>" not in figure
    assert "invisible or reordering" in page


def test_review_shows_parameters_and_where_it_runs(reviewer):
    review = held(parameters=(b"7", None, b"\x00\x01", b"x\ny"), parameter_formats=(0, 0, 1, 0))

    page = browser(reviewer).get(review.get_absolute_url()).text

    for shown in ("NULL", "0x0001", "⟨U+000A⟩", "clinic_app", "public.patients.ssn", "writes protected data"):
        assert shown in page


def test_pages_run_no_foreign_script_and_are_not_cached(reviewer):
    answer = browser(reviewer).get(held().get_absolute_url())

    policy = answer["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "no-store" in answer["Cache-Control"]
    assert "<style" not in answer.text
    assert "style=" not in answer.text
    assert "onclick" not in answer.text


def test_inbox_costs_the_same_for_one_and_for_forty(reviewer, django_assert_max_num_queries, django_assert_num_queries):
    client = browser(reviewer)
    held()
    client.get(reverse("approvals:inbox"))
    with django_assert_max_num_queries(12) as one:  # two of them only where the console's modules are loaded
        client.get(reverse("approvals:inbox"))

    for number in range(39):
        held(connection=f"c{number}")

    with django_assert_num_queries(len(one)):
        page = client.get(reverse("approvals:inbox"))
    assert page.text.count("yours to decide") == 40


def test_inbox_filters(reviewer):
    review = held()
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")
    client, inbox = browser(reviewer), reverse("approvals:inbox")

    assert str(review.pk) not in client.get(inbox).text
    assert str(review.pk) in client.get(inbox, {"status": "closed", "connection": "clinic"}).text
    assert str(review.pk) not in client.get(inbox, {"status": "closed", "connection": "other"}).text
    assert str(review.pk) not in client.get(inbox, {"status": "all", "requester": "nobody"}).text
    assert client.get(inbox, {"status": "nonsense", "page": "x"}).status_code == 200


# --- Deciding --------------------------------------------------------------------------------------------------------


def test_post_approves_and_shows_the_result(reviewer):
    review = held()

    answer = post(browser(reviewer), review.get_absolute_url())

    assert (answer.status_code, answer["Location"]) == (303, review.get_absolute_url())
    assert claim_grant(binding=binding(), statement_id="s") is not None


@pytest.mark.parametrize("method", ["get", "head", "options", "put", "patch", "delete"])
def test_no_other_method_changes_anything(method, reviewer):
    address = held().get_absolute_url()

    getattr(browser(reviewer), method)(address, {"decision": "approve", "reason": "x", "round": 1})

    assert nothing_happened()


def test_post_without_csrf_changes_nothing(reviewer):
    address = held().get_absolute_url()

    answer = post(browser(reviewer, enforce_csrf_checks=True), address)

    assert answer.status_code == 403
    assert nothing_happened()


def test_post_of_the_requesters_human_changes_nothing(admin):
    answer = post(browser(admin), held().get_absolute_url())

    assert answer.status_code == 403
    assert "never decide on their own request" in answer.text
    assert nothing_happened()


@pytest.mark.parametrize("broken", [{"reason": " "}, {"round": "x"}, {"decision": "maybe"}, {"round": 2}])
def test_post_that_is_incomplete_or_stale_changes_nothing(broken, reviewer):
    answer = post(browser(reviewer), held().get_absolute_url(), **broken)

    assert answer.status_code in (400, 403)
    assert nothing_happened()


def test_preview_shows_the_difference_and_stores_nothing(reviewer):
    page = post(browser(reviewer), held().get_absolute_url(), "preview", statement=BETTER).text

    assert "Approve the changed text" in page
    assert 'data-sign="+"' in page
    assert nothing_happened()


def test_live_analysis_answers_reviewers_only(reviewer, admin):
    review = held()
    address = reverse("approvals:analysis", args=[review.pk])

    assert "Approve the changed text" in post(browser(reviewer), address, "preview", statement=BETTER).text
    assert "never decide on their own" in post(browser(admin), address, "preview", statement=BETTER).text
    assert "would be denied" in post(browser(reviewer), address, "preview", statement="DROP TABLE patients").text
    assert browser(reviewer).get(address).status_code == 405
    assert nothing_happened()


def test_modify_keeps_line_feeds_as_typed(reviewer):
    post(browser(reviewer), held().get_absolute_url(), "modify", statement=BETTER.replace("\n", "\r\n"))

    assert claim_grant(binding=binding(), statement_id="s").statement == BETTER


def test_approve_with_an_edited_text_asks_which_one(reviewer):
    answer = post(browser(reviewer), held().get_absolute_url(), statement=BETTER)

    assert answer.status_code == 400
    assert nothing_happened()


def test_modified_denied_text_is_refused(reviewer):
    answer = post(browser(reviewer), held().get_absolute_url(), "modify", statement="DROP TABLE patients")

    assert answer.status_code == 403
    assert "would be denied" in answer.text
    assert nothing_happened()


def test_what_was_typed_and_chosen_stays_where_it_is_refused(reviewer):
    answer = post(browser(reviewer), held().get_absolute_url(), "modify", reason=" ", statement=BETTER)

    assert answer.status_code == 403
    assert BETTER.splitlines()[1] in answer.text.split("data-edit")[1]
    assert nothing_happened()


# --- Links and mail --------------------------------------------------------------------------------------------------


def linked(review, reviewer):
    return reverse("approvals:link", args=[issue_link(review=review, reviewer=reviewer)])


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_link_opened_by_anyone_changes_nothing(method, reviewer):
    review = held()
    address = linked(review, reviewer)

    for client in (browser(), browser(reviewer), browser(reviewer)):
        getattr(client, method)(address)

    assert nothing_happened()
    assert ReviewLink.objects.get().used_at is None


@pytest.mark.parametrize("signed_in", [False, True])
def test_link_posted_blindly_changes_nothing(signed_in, reviewer):
    address = linked(held(), reviewer)
    client = browser(reviewer if signed_in else None, enforce_csrf_checks=True)

    assert post(client, address).status_code == 403
    assert nothing_happened()


def test_link_decides_once_after_sign_in(reviewer):
    review = held()
    address = linked(review, reviewer)
    client = browser(reviewer)

    assert client.get(address).status_code == 200
    assert post(client, address).status_code == 303
    assert Review.objects.get().status == "approved"
    assert post(client, address).status_code == 403


@pytest.mark.parametrize("over", ["used", "expired", "another text"])
def test_own_link_that_is_over_leads_to_the_request_and_decides_nothing(over, reviewer, reviewer2):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))
    address = linked(review, reviewer)
    if over == "another text":
        decide_review(review=review, reviewer=reviewer2, decision="modify", reason="less", statement=BETTER)
    else:
        moment = {"used": "used_at", "expired": "expires_at"}[over]
        ReviewLink.objects.update(**{moment: timezone.now() - timedelta(seconds=1)})
    votes = Vote.objects.count()
    client = browser(reviewer)

    opened = client.get(address, follow=True)
    posted = post(client, address)

    assert opened.redirect_chain == [(review.get_absolute_url(), 302)]
    assert "as it stands now" in opened.text
    assert posted.status_code == 403
    assert review.get_absolute_url() in posted.text
    assert Vote.objects.count() == votes


@pytest.mark.parametrize("used", [False, True])
def test_link_shows_nothing_to_who_is_no_reviewer_any_more(used, reviewer):
    review = held()
    address = linked(review, reviewer)
    assert browser(reviewer).get(address).status_code == 200  # the control
    ReviewLink.objects.update(used_at=timezone.now() if used else None)

    reviewer.groups.clear()
    answer = browser(reviewer).get(address)

    assert answer.status_code == 403
    assert "UPDATE patients" not in answer.text
    assert str(review.pk) not in answer.text


def test_used_link_leads_another_reviewer_nowhere(reviewer, reviewer2):
    review = held()
    address = linked(review, reviewer)
    ReviewLink.objects.update(used_at=timezone.now())

    answer = browser(reviewer2).get(address)

    assert answer.status_code == 403
    assert str(review.pk) not in answer.text


def test_link_forwarded_to_another_reviewer_is_spent(reviewer, reviewer2):
    address = linked(held(), reviewer)

    assert post(browser(reviewer2), address).status_code == 403
    assert nothing_happened()
    assert post(browser(reviewer), address).status_code == 303  # the control


def test_link_of_another_text_is_spent(reviewer, reviewer2):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))
    token = issue_link(review=review, reviewer=reviewer)
    decide_review(review=review, reviewer=reviewer2, decision="modify", reason="less", statement=BETTER)

    with pytest.raises(Refusal):
        find_link(token=token, user=reviewer)
    renewed = issue_link(review=Review.objects.get(), reviewer=reviewer)
    assert find_link(token=renewed, user=reviewer).review == review


def test_link_survives_a_refused_decision(reviewer):
    address = linked(held(), reviewer)

    assert post(browser(reviewer), address, reason=" ").status_code == 403
    assert ReviewLink.objects.get().used_at is None
    assert post(browser(reviewer), address).status_code == 303


def test_link_token_is_not_stored(reviewer):
    token = issue_link(review=held(), reviewer=reviewer)

    assert len(token) >= 43
    assert token not in repr(ReviewLink.objects.values().get())


def test_mail_goes_to_those_who_may_decide_and_only_once(reviewer, reviewer2, admin):
    person("gone", "privacy-officers", is_active=False)
    person("outsider", "data-stewards")
    review = held()

    assert mail_reviewers(review) == 2
    assert mail_reviewers(review) == 0
    assert sorted(address for letter in mail.outbox for address in letter.to) == [
        "reviewer2@example.test",
        "reviewer@example.test",
    ]


def test_mail_says_who_and_where_but_never_what(reviewer):
    review = held(statement="UPDATE patients SET ssn = '900-01-2345'", parameters=(b"Muster",))

    notify_reviewers(str(review.pk))

    (letter,) = mail.outbox
    whole = letter.message().as_string() + letter.body + letter.alternatives[0].content + letter.subject
    for said in ("demo-agent", "admin", "clinic", "UPDATE", "public.patients", "phi-writes", "/reviews/mail/"):
        assert said in letter.body
    for secret in ("900-01-2345", "Muster", "SET ssn"):
        assert secret not in whole


def test_mail_is_not_sent_for_a_decided_review(reviewer):
    review = held()
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")

    notify_reviewers(str(review.pk))

    assert mail.outbox == []


# --- Who looked, and what they cannot miss ---------------------------------------------------------------------------


def views():
    return [entry_body(entry) for entry in LogEntry.objects.filter(kind="evidence.viewed").order_by("seq")]


def entry_body(entry):
    return json.loads(bytes(entry.canonical))["body"]


def test_reading_the_statement_is_recorded_once_per_sign_in_and_text(reviewer, reviewer2):
    review = held()
    reading = browser(reviewer)

    browser(person("outsider")).get(review.get_absolute_url())  # sees nothing, so there is nothing to record
    for _ in range(3):
        reading.get(review.get_absolute_url())
    browser(reviewer2).get(reverse("api-review", args=[review.pk]))

    assert [(view["subject"], view["through"], view["requester"]) for view in views()] == [
        ("reviewer", "page", "demo-agent"),
        ("reviewer2", "rest", "demo-agent"),
    ]


@pytest.mark.parametrize("way", ["preview", "analysis", "refused"])
def test_no_way_of_reading_goes_unrecorded(way, reviewer):
    review = held()
    address = reverse("approvals:analysis", args=[review.pk]) if way == "analysis" else review.get_absolute_url()
    more = {"reason": ""} if way == "refused" else {"statement": BETTER}

    answer = post(browser(reviewer), address, "deny" if way == "refused" else "preview", **more)

    assert "555-0100" in answer.text  # the asked text is there
    assert [view["subject"] for view in views()] == ["reviewer"]


def test_new_text_is_another_view(reviewer, reviewer2):
    review = held(groups=(ReviewerGroup("privacy-officers", 2),))
    reading = browser(reviewer2)
    reading.get(review.get_absolute_url())
    decide_review(review=review, reviewer=reviewer, decision="modify", reason="less", statement=BETTER)

    reading.get(review.get_absolute_url())

    assert [view["round"] for view in views()] == [1, 2]


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x08", "\u3164", "\u00a0", "\x7f"])
def test_changed_text_may_hide_nothing(hidden, reviewer):
    review = held()

    answer = post(browser(reviewer), review.get_absolute_url(), "modify", statement=BETTER + hidden + "-- x")
    shown = post(browser(reviewer), review.get_absolute_url(), "preview", statement=BETTER + hidden + "-- x")

    assert (answer.status_code, nothing_happened()) == (403, True)
    assert f"U+{ord(hidden):04X}" in shown.text


def test_characters_the_request_had_may_stay(reviewer):
    asked = UPDATE + " -- \u202e"
    review = held(statement=asked)

    answer = post(browser(reviewer), review.get_absolute_url(), "modify", statement=asked.replace("0100", "0101"))

    assert answer.status_code == 303


def test_inbox_pages_keep_the_filters(reviewer, monkeypatch):
    monkeypatch.setattr("approvals.views.PAGE_SIZE", 1)
    for number in range(3):
        held(parameters=(str(number).encode(),))

    text = browser(reviewer).get(reverse("approvals:inbox") + "?status=open&connection=clinic&page=2").text

    assert "?status=open&amp;connection=clinic&amp;page=1" in text
    assert "?status=open&amp;connection=clinic&amp;page=3" in text


# --- Names that a statement chooses ----------------------------------------------------------------------------------

ALIAS = "\u202etcader :reffo"  # reads "offer: redact" where nobody marks it


def hostile():
    request = write_request()
    return replace(
        request,
        principal=replace(request.principal, subject="demo\u200bagent"),
        analysis=replace(request.analysis, problems=("column \u2066x is odd",), complete=False),
    )


def test_names_beside_the_statement_hide_and_reorder_nothing(reviewer):
    review = held(request=hostile())
    review.facts["masks"] = [{"column": ALIAS, "technique": "clear", "rule": "r"}]
    review.facts["tables_written"] = ["public.p\u0430tients"]
    review.save()

    shown = browser(reviewer).get(review.get_absolute_url()).text
    listed = browser(reviewer).get(reverse("approvals:inbox")).text

    assert ALIAS in review.facts["masks"][0]["column"]  # control: it is there to be shown
    for text in (shown, listed):
        assert not {"\u202e", "\u200b", "\u2066"} & set(text)
    assert "⟨U+202E⟩</span>tcader :reffo: clear" in shown
    assert "demo<span" in shown
    assert "demo<span" in listed
    assert "⟨U+2066⟩" in shown
    assert '<span class="letter" title="U+0430 CYRILLIC SMALL LETTER A">\u0430</span>' in shown


def test_names_in_mails_and_messages_reorder_nothing(reviewer):
    review = held(request=hostile())
    review.facts["tables_written"] = [ALIAS]
    review.facts["kind"] = "UPDATE\r\nBcc: everybody@example.test"
    review.save()

    mail_reviewers(review)

    sent = mail.outbox[0]
    html = sent.alternatives[0].content
    for text in (sent.subject, sent.body, html, json.dumps(review_notice(review), ensure_ascii=False)):
        assert not {"\u202e", "\u200b", "\r"} & set(text)
    assert sent.subject == "Review wanted: UPDATE⟨U+000D⟩⟨U+000A⟩Bcc: everybody@example.test on clinic"
    assert "⟨U+202E⟩tcader" in sent.body


@pytest.mark.parametrize("size", [500, 19_000])
def test_long_parameter_is_shown_to_its_end(size, reviewer):
    review = held(parameters=(b"a" * size + b"HIDDEN-TAIL", None))

    assert "HIDDEN-TAIL" in browser(reviewer).get(review.get_absolute_url()).text


def test_parameter_too_long_to_show_says_so(reviewer):
    value = b"a" * 50_000 + b"SECRET-MIDDLE" + b"b" * 50_000 + b"TAIL"
    shown = browser(reviewer).get(held(parameters=(value, None)).get_absolute_url()).text

    assert "SECRET-MIDDLE" not in shown
    assert "TAIL" in shown
    assert "characters are left out here" in shown
    assert "$1 has 100017 bytes, too many to show" in shown
    assert hashlib.sha256(value).hexdigest() in shown


def test_statement_of_nothing_but_marks_stays_a_page(reviewer):
    text = "SELECT 1 --" + "\u202ea" * 100_000
    review = held(statement=text, request=write_request(text=text))

    shown = browser(reviewer).get(review.get_absolute_url()).text

    assert shown.count("⟨U+202E⟩") == 100_000
    assert "\u202e" not in shown.replace(text, "")
    assert len(shown) < 3_000_000


def test_page_says_what_the_agent_is_for(reviewer):
    hooks.register(purpose_of=lambda subject, issuer: f"recalls for {subject} of {issuer}")

    shown = browser(reviewer).get(held().get_absolute_url()).text

    assert "Purpose: recalls for demo-agent of https://issuer" in shown


@pytest.mark.parametrize(("risk", "button"), [(59, "Approve the changed text"), (60, "Propose the changed text")])
def test_preview_says_its_risk_and_who_confirms(risk, button, reviewer, data_plane):
    data_plane.risk = risk
    review = held()

    shown = (
        browser(reviewer)
        .post(
            reverse("approvals:analysis", args=[review.pk]),
            {"decision": "preview", "round": 1, "statement": BETTER},
        )
        .text
    )

    assert f"risk {risk}" in shown
    assert button in shown
    assert ("somebody else must confirm" in shown) is (risk >= 60)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("approved", "has not yet"),
        ("executed", "it ran"),
        ("denied", "it did not run"),
        ("expired", "Nobody decided in time"),
        ("withdrawn", "stopped waiting"),
    ],
)
def test_page_of_an_ended_request_says_what_became_of_it(status, words, reviewer):
    review = held()
    client = browser(reviewer)
    assert words not in client.get(review.get_absolute_url()).text  # control: it waits

    Review.objects.update(status=status, decided_at=timezone.now())

    assert words in client.get(review.get_absolute_url()).text


def test_page_tells_whoever_changed_a_risky_text_that_somebody_else_confirms(data_plane, reviewer):
    data_plane.risk = 70
    review = held()
    decide_review(review=review, reviewer=reviewer, decision="modify", reason="less", statement=BETTER)

    assert "somebody else confirms it" in browser(reviewer).get(review.get_absolute_url()).text
