"""How large a held statement will be, for the people who decide about it: a count from the database's planner.

It is asked where a review opens, on the analyst's own connection, and never of a statement that is let through. A
planner that answers late or not at all holds nobody up: then the size is not known, and the page says so.
"""

from __future__ import annotations

import asyncio
import logging

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Analysis
from gateway.session.context import SessionContext
from gateway.session.services import Services

logger = logging.getLogger(__name__)

WITHIN_S = 2.0


async def rows_expected(services: Services, session: SessionContext, analysis: Analysis) -> RowsExpected:
    """Return what the planner expects, `UNKNOWN` where it does not say within `WITHIN_S`. Never raises."""
    analyst = services.analysts.get(session.connection.kind)
    if analyst is None:
        return UNKNOWN
    try:
        async with asyncio.timeout(WITHIN_S):
            return await analyst.expect(session, analysis)
    except Exception as error:  # a number for people is missing; the decision does not rest on it
        logger.warning("rows not estimated: session=%s error=%s", session.session_id, type(error).__name__)
        return UNKNOWN
