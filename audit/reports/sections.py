"""The evidence pack by section of 45 CFR: what is asked, what answers it, and which entries of the log prove it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """`reports` by name, `kinds` of entries whose number in the period is shown."""

    cfr: str
    title: str
    asked: str
    answer: str
    reports: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


SECTIONS: tuple[Section, ...] = (
    Section(
        "164.308(a)(1)(ii)(D)",
        "Information system activity review",
        "Is activity reviewed in a timely manner, by appropriate people?",
        "Every statement is recorded before it runs. Reviewers sign periods off; a sign-off names the log's size and "
        "newest entry at that moment and seals the findings.",
        ("activity", "sign-offs"),
        ("statement.authorised", "statement.completed", "statement.denied", "evidence.reviewed"),
    ),
    Section(
        "164.308(a)(3)(ii)(A), (C)",
        "Authorisation, supervision and termination",
        "Who may approve, how are requests verified, how fast does access end?",
        "Policies name reviewers; every request, decision and use of an approval is an entry. Rights that ended are in "
        "the access lifecycle with the moment they ended.",
        ("approvals", "access-lifecycle"),
        ("review.opened", "review.decided", "review.escalated", "review.expired", "grant.claimed", "grant.revoked"),
    ),
    Section(
        "164.308(a)(4)(ii)(B), (C)",
        "Access authorisation, establishment and modification",
        "What is each right based on, and is it reviewed and recertified?",
        "Every right is a rule of a recorded version. The recertification lists who has which right since when and "
        "when it was last used; what was not used is marked, to be confirmed or removed.",
        ("recertification", "access-lifecycle", "configuration"),
        ("config.changed",),
    ),
    Section(
        "164.308(a)(5)(ii)(C)",
        "Log-in monitoring",
        "Are failed attempts to sign in noticed?",
        "Every refusal before a session, of agents and of people, is an entry with its reason; never with a password.",
        ("failed-authentication",),
        ("authentication.failed", "session.opened", "person.signed_in"),
    ),
    Section(
        "164.312(a)(1), (a)(2)(i), (d)",
        "Access control, unique identification, authentication",
        "Which persons and programs had access, each under its own identity?",
        "Every entry names the agent, the person answerable for it, the issuer and the token. No name is shared.",
        ("access",),
        ("session.opened", "token.issued", "ticket.redeemed"),
    ),
    Section(
        "164.312(a)(2)(ii)",
        "Emergency access",
        "Who used emergency access, within which limits, and when did it end?",
        "Break-glass access is opened by named people with a reason, ends by itself, and is reviewed by somebody else.",
        ("break-glass",),
        ("emergency.opened", "emergency.ended", "emergency.reviewed"),
    ),
    Section(
        "164.312(a)(2)(iii), (iv), (e)",
        "Log-off, encryption, transmission",
        "Do sessions end, and is what travels and rests encrypted?",
        "Sessions record the TLS of both legs and why they ended. Texts and recordings rest under AES-256-GCM; keys "
        "are created and rotated by recorded acts.",
        ("coverage",),
        ("session.closed", "key.created", "key.rotated", "log.key_rotated"),
    ),
    Section(
        "164.312(b)",
        "Audit controls",
        "What is audited, and is the record complete?",
        "One log without a gap over all processes and connections; looking at evidence is itself recorded.",
        ("coverage", "evidence-access"),
        ("gateway.started", "gateway.stopped", "evidence.viewed", "evidence.searched", "evidence.exported"),
    ),
    Section(
        "164.312(c)(1), (c)(2)",
        "Integrity",
        "How would an alteration be noticed, and was there one?",
        "A hash chain and a Merkle tree, signed checkpoints, anchors held by others. The proof bundle of this pack "
        "verifies without this product's database or its operator.",
        ("integrity",),
        ("evidence.checked", "log.damage_found", "log.restored"),
    ),
    Section(
        "164.316(b)(2)(i)",
        "Retention",
        "Are records kept six years?",
        "Entries are never removed; what is sealed beside them is erased only by a recorded purge that leaves every "
        "proof valid.",
        (),
        ("evidence.purged",),
    ),
    Section(
        "164.402-408, 164.528",
        "Breach scope and accounting of disclosures",
        "Who saw a patient's records; whose records did somebody see?",
        "Answered per patient in the console (Who saw a patient?): a list would be a disclosure of its own, so this "
        "pack holds none.",
        (),
        ("subjects.looked_up",),
    ),
    Section(
        "164.502(b), 164.514(d)",
        "Minimum necessary",
        "Is access limited to what is needed?",
        "Per agent: the columns it may ask for, asked for, got masked, and never used, with a proposal that would "
        "remove what was not used.",
        ("minimum-necessary",),
        (),
    ),
    Section(
        "164.514(b)",
        "De-identification and masking",
        "Which identifiers were masked, by which rule? Is what is left de-identified?",
        "Per column: rule, technique, and how many values; and for each identifier of the Safe Harbor method what "
        "becomes of it under the rules as they stand. Rules are versioned with everything else.",
        ("masking", "de-identification"),
        (),
    ),
)
