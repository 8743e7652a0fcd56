"""What is deployed was compared with what serves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from evergreen.artifacts import Deployment, Model, Verdict
from evergreen.errors import ConfigurationError
from evergreen.lake.lake import Lake
from evergreen.orchestration.deploy_tasks import _require_judged_against_what_serves
from evergreen.pipeline import Pipeline


@pytest.mark.parametrize(
    ("judged_against", "serving", "sound"),
    [
        ("v1", "v1", True),
        ("v1", "v2", False),
        (None, "v2", False),
        (None, None, True),
        ("v1", None, True),
        ("v1", "itself", True),
    ],
)
def test_a_model_is_deployed_only_over_what_it_was_judged_against(
    lake: Lake,
    fraud: Pipeline,
    make_model: Callable[..., Model],
    judged_against: str | None,
    serving: str | None,
    sound: bool,
) -> None:
    model = make_model(lake, fraud)
    verdict = Verdict(
        pipeline="fraud",
        version=model.version,
        approved=True,
        judged="against champion" if judged_against else "absolute",
        champion=judged_against,
        reasons=(),
    )
    current = serving and _deployment(model.version if serving == "itself" else serving)
    with nullcontext() if sound else pytest.raises(ConfigurationError, match=r"while v2 serves.*Clear choose_champion"):
        _require_judged_against_what_serves(model, verdict, current or None)


def _deployment(version: str) -> Deployment:
    return Deployment(
        pipeline="fraud",
        sequence=1,
        at=datetime(2026, 11, 1, tzinfo=UTC),
        from_version=None,
        to_version=version,
        model_uri="models/fraud",
        model_digest="0" * 64,
        actor="ann",
        reason="",
    )
