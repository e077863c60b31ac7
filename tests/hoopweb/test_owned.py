"""The role of who answers for an agent: sees and renews their own, ends them, and never gives them more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import LogEntry
from gateway.domain.clients import set_client_secret
from gateway.models import AccessRule, Agent
from tests.hoopweb.test_dashboard import member, signed_in


@pytest.fixture
def owner(db: None) -> User:
    return member("olga", "agent-owners")


@pytest.fixture
def mine(owner: User) -> Agent:
    return Agent.objects.create(name="mine", client_id="mine", owner=owner, groups=["ai-agents"])


@pytest.fixture
def theirs(db: None) -> Agent:
    return Agent.objects.create(name="theirs", client_id="theirs", owner=User.objects.create_user("tom"))


def post(client: Client, agent: Agent, do: str, **fields: str) -> Any:
    return client.post(reverse("console:owned-agent", args=[agent.name]), {"do": do, **fields})


PAGES = ("console:owned-agent", "console:sight", "console:proof")


@pytest.mark.parametrize("page", PAGES)
def test_owner_opens_the_pages_of_their_own_agent_and_no_others(
    page: str, owner: User, mine: Agent, theirs: Agent
) -> None:
    client = signed_in(owner)

    assert client.get(reverse(page, args=["mine"])).status_code == 200
    assert client.get(reverse(page, args=["theirs"])).status_code == 404


def test_an_agents_owner_without_the_role_sees_none(theirs: Agent) -> None:
    tom = theirs.owner
    tom.is_staff = True
    tom.save()

    assert signed_in(tom).get(reverse("console:owned-agent", args=["theirs"])).status_code == 403
    tom.groups.add(Group.objects.get(name="agent-owners"))
    assert signed_in(tom).get(reverse("console:owned-agent", args=["theirs"])).status_code == 200


def test_rights_page_lists_their_own_alone(owner: User, mine: Agent, theirs: Agent) -> None:
    page = signed_in(owner).get(reverse("console:rights")).content.decode()

    assert "mine" in page
    assert "theirs" not in page


def test_owner_renews_a_secret_and_the_log_says_so(owner: User, mine: Agent, theirs: Agent) -> None:
    set_client_secret(agent=theirs)
    client = signed_in(owner)

    made = client.post(reverse("console:proof", args=["mine"]), {"do": "secret", "overlap_s": "0"})
    refused = client.post(reverse("console:proof", args=["theirs"]), {"do": "secret", "overlap_s": "0"})

    assert (made.status_code, refused.status_code) == (200, 404)
    assert mine.client_secrets.count() == 1
    assert LogEntry.objects.filter(kind="agent.secret_rotated").count() == 2  # the control's own is the other


def test_owner_lets_no_further_platform_stand_for_the_agent(owner: User, mine: Agent) -> None:
    place = reverse("console:proof", args=["mine"]) + "?platform=github-actions"
    fields = {"do": "federate", "claim_0": "example/reports"}

    assert signed_in(owner).post(place, fields).status_code == 403
    assert signed_in(member("ann", "administrators")).post(place, fields).status_code == 302  # the control
    mine.refresh_from_db()
    assert len(mine.federation) == 1


def test_owner_switches_off_and_not_on(owner: User, mine: Agent) -> None:
    client = signed_in(owner)

    post(client, mine, "switch-off")
    mine.refresh_from_db()
    assert not mine.enabled

    for do in ("switch-on", "purpose", "end", "revoke"):
        post(client, mine, do, purpose="cohorts", ends_on="2099-01-01", enabled="on", groups="administrators")
    mine.refresh_from_db()
    assert (mine.enabled, mine.groups) == (False, ["ai-agents"])


def test_owner_ends_it_sooner_and_never_later(owner: User, mine: Agent) -> None:
    client, day = signed_in(owner), timezone.now() + timedelta(days=30)

    post(client, mine, "end", ends_on=f"{day:%Y-%m-%d}")
    mine.refresh_from_db()
    assert mine.expires_at is not None
    first = mine.expires_at
    assert first.date() == day.date()

    post(client, mine, "end", ends_on=f"{day + timedelta(days=1):%Y-%m-%d}")
    mine.refresh_from_db()
    assert mine.expires_at == first

    post(client, mine, "end", ends_on=f"{day - timedelta(days=1):%Y-%m-%d}")
    mine.refresh_from_db()
    assert mine.expires_at < first


def test_revoking_refuses_earlier_tokens_and_is_recorded_under_their_name(owner: User, mine: Agent) -> None:
    post(signed_in(owner), mine, "revoke")

    mine.refresh_from_db()
    assert mine.revoked_before is not None
    assert b'"subject":"olga"' in bytes(LogEntry.objects.filter(kind="config.changed").latest("seq").canonical)


def test_owner_has_no_door_to_the_agents_row_or_to_rules(owner: User, mine: Agent) -> None:
    rule = AccessRule.objects.create(name="r", groups=["ai-agents"], connections=["*"], operations=["read"])
    client = signed_in(owner)

    assert client.get(reverse("admin:gateway_agent_change", args=[mine.pk])).status_code == 403
    assert client.get(reverse("admin:gateway_accessrule_change", args=[rule.pk])).status_code == 403
