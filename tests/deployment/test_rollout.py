"""Moving production, with a real ledger and a real lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from evergreen.artifacts import Deployment, Model
from evergreen.deployment.rollout import reconcile, roll_back, roll_out
from evergreen.errors import ConfigurationError, Conflict, DataError, IntegrityError, NotFound, TemporaryError
from evergreen.lake.deployments import current_path, published_deployment
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger

WHO = {"actor": "tester", "reason": "a test"}


@dataclass
class Target:
    """A service that has what is published, and refuses the versions in `bad`."""

    lake: Lake
    bad: set[str] = field(default_factory=set)
    confirmed: list[str] = field(default_factory=list)

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        assert published_deployment(self.lake, deployment.pipeline) == deployment
        if deployment.to_version in self.bad:
            raise DataError("The service", found="nonsense", wanted="probabilities", remedy="Train again.")
        self.confirmed.append(deployment.to_version)


@pytest.fixture
def target(lake: Lake) -> Target:
    return Target(lake)


def serving(ledger: Ledger, lake: Lake) -> str | None:
    """The version on which ledger and lake agree."""
    current, published = ledger.current("fraud"), published_deployment(lake, "fraud")
    assert current == published
    return current.to_version if current else None


def test_a_rollout_is_recorded_published_and_confirmed(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    first, second = registered(2), registered(3)
    roll_out(first, target, ledger, lake, **WHO)
    deployment = roll_out(second, target, ledger, lake, **WHO)
    assert (deployment.from_version, deployment.to_version) == (first.version, second.version)
    assert serving(ledger, lake) == second.version
    assert target.confirmed == [first.version, second.version]


def test_the_version_that_serves_is_confirmed_again_without_an_entry(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    model = registered(2)
    first = roll_out(model, target, ledger, lake, **WHO)
    assert roll_out(model, target, ledger, lake, **WHO) == first
    assert ledger.history("fraud") == [first]
    assert target.confirmed == [model.version] * 2


def test_a_failed_rollout_goes_back_and_both_entries_stay(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    good, bad = registered(2), registered(3)
    roll_out(good, target, ledger, lake, **WHO)
    target.bad.add(bad.version)
    with pytest.raises(DataError, match=f"{good.version} is published again"):
        roll_out(bad, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == good.version
    assert [d.to_version for d in ledger.history("fraud")] == [good.version, bad.version, good.version]
    assert "undo of deployment 2: The service: found nonsense" in ledger.history("fraud")[-1].reason


def test_a_failed_first_rollout_says_there_is_nothing_to_go_back_to(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    bad = registered(2)
    target.bad.add(bad.version)
    with pytest.raises(DataError, match="Nothing served fraud before"):
        roll_out(bad, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == bad.version


def test_altered_bytes_never_reach_the_ledger(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    model = registered(2)
    lake.objects.put(f"{model.uri}/model.onnx", b"something else")
    with pytest.raises(IntegrityError):
        roll_out(model, target, ledger, lake, **WHO)
    assert serving(ledger, lake) is None


def test_an_older_model_needs_to_be_asked_for(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    older, newer = registered(2), registered(3)
    roll_out(newer, target, ledger, lake, **WHO)
    with pytest.raises(ConfigurationError, match="no older than"):
        roll_out(older, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == newer.version
    roll_out(older, target, ledger, lake, allow_older=True, **WHO)
    assert serving(ledger, lake) == older.version


def test_a_rollback_leads_to_the_version_before(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    models = [registered(day) for day in (2, 3, 4)]
    for model in models:
        roll_out(model, target, ledger, lake, **WHO)
    assert roll_back("fraud", target, ledger, lake, **WHO).to_version == models[1].version
    assert roll_back("fraud", target, ledger, lake, **WHO).to_version == models[0].version
    assert serving(ledger, lake) == models[0].version
    with pytest.raises(NotFound, match="no version that served before"):
        roll_back("fraud", target, ledger, lake, **WHO)


def test_a_rollback_after_a_failed_rollout_never_leads_to_what_failed(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    first, second, bad = (registered(day) for day in (2, 3, 4))
    roll_out(first, target, ledger, lake, **WHO)
    roll_out(second, target, ledger, lake, **WHO)
    target.bad.add(bad.version)
    with pytest.raises(DataError):
        roll_out(bad, target, ledger, lake, **WHO)
    assert roll_back("fraud", target, ledger, lake, **WHO).to_version == first.version


@pytest.mark.parametrize("damage", ["absent", "stale", "garbage"])
def test_a_crash_between_ledger_and_lake_is_healed(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake, damage: str
) -> None:
    first, second = registered(2), registered(3)
    if damage == "stale":
        roll_out(first, target, ledger, lake, **WHO)
    if damage == "garbage":
        lake.objects.put(current_path("fraud"), b"{")
    ledger.deploy(second, **WHO)
    assert reconcile("fraud", ledger, lake) == ledger.current("fraud")
    assert serving(ledger, lake) == second.version


def test_nothing_deployed_leaves_nothing_published(ledger: Ledger, lake: Lake) -> None:
    assert reconcile("fraud", ledger, lake) is None
    assert not lake.objects.exists(current_path("fraud"))


def test_a_rollout_overtaken_by_another_says_so_and_leaves_it(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    slow, fast = registered(2), registered(3)

    class Overtaken(Ledger):
        def deploy(self, model: Model, *, actor: str, reason: str, at: object = None) -> Deployment:
            mine = ledger.deploy(model, actor=actor, reason=reason)
            ledger.deploy(fast, **WHO)
            return mine

    overtaken = Overtaken.__new__(Overtaken)
    overtaken.__dict__.update(ledger.__dict__)
    with pytest.raises(Conflict, match=fast.version):
        roll_out(slow, target, overtaken, lake, **WHO)
    assert serving(ledger, lake) == fast.version


def test_an_undo_never_overrides_a_rollout_that_came_meanwhile(
    registered: Callable[[int], Model], ledger: Ledger, lake: Lake
) -> None:
    good, bad, other = (registered(day) for day in (2, 3, 4))
    roll_out(good, Target(lake), ledger, lake, **WHO)

    class Slow:
        def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
            roll_out(other, Target(lake), ledger, lake, **WHO)
            raise TemporaryError("The service", found="silence", wanted="answers", remedy="Wait.")

    with pytest.raises(TemporaryError, match="Another rollout came meanwhile"):
        roll_out(bad, Slow(), ledger, lake, **WHO)
    assert serving(ledger, lake) == other.version
