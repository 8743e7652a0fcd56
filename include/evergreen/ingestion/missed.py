"""Days that no run brought to its verdict, as of nights when Airflow was down: the next night reads them too."""

from __future__ import annotations

import logging
from datetime import date, timedelta

from evergreen.lake.lake import Lake
from evergreen.lake.tables import days_between
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)

MOST_DAYS = 31
"""Missed days that one run makes up for; of more, the newest."""
ONE = timedelta(days=1)


def missed_days(pipeline: Pipeline, day: date, lake: Lake) -> list[date]:
    """Days between `day` and the newest one before it that was judged, at most MOST_DAYS; none in a lake without any.

    Days beyond that are named in a warning. Every judged day is in quarantine, if only without rows; a day that
    raw alone has may be of a run that failed before its verdict.
    """
    judged = lake.table("quarantine", pipeline.pipeline).days(last=day - ONE)
    gap = days_between(judged[-1].day + ONE, day - ONE) if judged else []
    older, missed = gap[:-MOST_DAYS], gap[-MOST_DAYS:]
    if older:
        logger.warning(
            "%s has no day from %s to %s, more than one run makes up for: backfill %s.ingest_data from %s to %s",
            *(pipeline.pipeline, older[0], older[-1]) * 2,
        )
    if missed:
        logger.info("no run judged %s to %s of %s: reading them too", missed[0], missed[-1], pipeline.pipeline)
    return missed
