"""What an empty list says: what belongs there, and what makes it appear. Shown by unfold/helpers/empty_results.html."""

from __future__ import annotations

from django.contrib.admin import AdminSite

WHEN_EMPTY = {
    "approvals.channel": (
        "A channel tells people outside the console of reviews and emergencies: a signed webhook, or Slack. Reviewers "
        "are told by e-mail without one."
    ),
    "approvals.delivery": (
        "Each message to a channel is here, with its attempts. What could not be delivered stays, to be sent again."
    ),
    "approvals.emergencyroster": (
        "A roster names the people who may break the glass on some connections, for how long, and who reviews it "
        "afterwards. Without one nobody can."
    ),
    "approvals.grant": (
        "An approval leaves a grant: for one execution, or for a time. It is here while it can be used, and can be "
        "revoked."
    ),
    "approvals.policy": (
        "A policy allows, holds or denies statements by what they do. Until there is one, access rules alone decide. "
        "Try a draft on recorded traffic in the simulator before you enable it."
    ),
    "approvals.policyversion": (
        "Every change of a policy is kept here, with its author; decisions name the version they were made under."
    ),
    "approvals.review": "A statement that a policy holds becomes a review. Its client waits until somebody decides.",
    "audit.anchor": (
        "An anchor gives the log's signed head to somebody who is not this database's administrator: a time-stamp "
        "authority, a witness, an auditor's mailbox, a write-once directory. Without one a cut-off tail cannot be "
        "proven."
    ),
    "audit.anchorproof": "What anchors answered, checkpoint by checkpoint. Add an anchor first.",
    "audit.checkpoint": "The log's head is signed every minute; the first signature follows the first entry.",
    "audit.legalhold": (
        "A hold keeps the records of a person, a connection or a period from being purged, whatever the retention says."
    ),
    "audit.logdamage": (
        "Nothing is known to be damaged. Checks compare the log with its signatures all the time; what they find is "
        "here until somebody clears it."
    ),
    "audit.logentry": (
        "Every sign-in, statement, decision and change of configuration is an entry. The first agent that connects "
        "writes one."
    ),
    "audit.reportrun": (
        "Reports are made in the background and wait here for their download: activity, accounting, minimum "
        "necessary, the evidence pack. Ask for one with the link above."
    ),
    "audit.sessionrecord": (
        "A session begins when an agent or a person connects through the gateway. Connect one, and it is here while "
        "it lasts and after."
    ),
    "audit.sink": (
        "A sink sends the log on, without statements and values, to the system your security team watches: OCSF, "
        "syslog, CEF, FHIR, Cloud Logging or a file."
    ),
    "audit.statementrecord": (
        "Every statement that reached the gateway: allowed, held or denied, with what it touched and what was masked."
    ),
    "gateway.accessrule": (
        "Without an access rule nobody may do anything. A rule gives groups some operations on some connections."
    ),
    "gateway.agent": (
        "An agent is a program with an identity of its own and a person who answers for it. It gets tokens here or "
        "brings those of an issuer you trust."
    ),
    "gateway.connection": (
        "A connection is a database behind the gateway and the credential only the gateway has. The guided set-up, "
        "“Connect a database”, makes one together with its masks, rules and first agent."
    ),
    "gateway.issuer": (
        "An issuer is an identity provider whose tokens are accepted for people or agents: your own, a CI system's, a "
        "cluster's."
    ),
    "gateway.quota": (
        "A quota says how much each agent may ask for: statements a minute and a day, rows and bytes a day, and how "
        "many at a time. Without one an agent may ask as fast as its connections allow."
    ),
    "gateway.reststatement": "Statements asked over REST are kept here with their results until they expire.",
    "gateway.revokedtoken": "A token that was revoked before its time is refused everywhere. None is.",
    "gateway.scimtoken": (
        "A provisioning token lets your identity provider keep people and groups up to date by SCIM: who is "
        "deactivated there loses roles, grants and live sessions here."
    ),
    "gateway.ticket": (
        "A ticket is a one-time password for drivers that cannot carry a token. It is bought over REST and gone "
        "within minutes."
    ),
    "masking.columntag": (
        "A tag says what a column holds. Discovery proposes tags (manage.py discover); a confirmed one makes the "
        "rules of its data class apply."
    ),
    "masking.dataclass": (
        "A data class is a kind of protected data, such as ssn. Rules can cover a class instead of naming columns."
    ),
    "masking.maskingrule": (
        "A masking rule says how the values of some columns are shown. On a connection without rules only the "
        "detectors of free text mask anything."
    ),
    "auth.group": "Groups carry rights: of people to the console, of agents to connections, of reviewers to decide.",
}


def teach(site: AdminSite) -> None:
    """Give each list its words. To be called when every model is registered."""
    for model, model_admin in site._registry.items():
        model_admin.when_empty = WHEN_EMPTY.get(model._meta.label_lower, "")  # type: ignore[attr-defined]
