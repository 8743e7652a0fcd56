"""Moving production, with a real ledger and a real lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from evergreen.artifacts import Deployment, Model
from evergreen.deployment.rollout import reconcile, roll_back, roll_out
from evergreen.errors import (
    ConfigurationError,
    DataError,
    EvergreenError,
    IntegrityError,
    NotFound,
    Overtaken,
    TemporaryError,
)
from evergreen.lake.deployments import current_path, published_deployment
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger

WHO = {"actor": "tester", "reason": "a test"}
FORBIDDEN = ConfigurationError("The cluster", found="status 403", wanted="to list pods", remedy="Bind the Role.")
SILENCE = TemporaryError("The service", found="silence", wanted="answers", remedy="See its log.")


@dataclass
class Target:
    """A service that has what is published, and refuses the versions in `bad`."""

    lake: Lake
    bad: set[str] = field(default_factory=set)
    confirmed: list[str] = field(default_factory=list)
    unseen: EvergreenError | None = None
    """What a look at it raises."""
    unheard: EvergreenError | None = None
    """What asking for a version raises."""

    def look(self) -> None:
        if self.unseen:
            raise self.unseen

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        assert published_deployment(self.lake, deployment.pipeline) == deployment
        if self.unheard:
            raise self.unheard
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


@pytest.mark.parametrize("error", [SILENCE, FORBIDDEN], ids=["silent", "forbidden"])
def test_a_rollout_that_cannot_be_seen_goes_back(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake, error: EvergreenError
) -> None:
    first, second = registered(2), registered(3)
    roll_out(first, target, ledger, lake, **WHO)
    target.unheard = error
    with pytest.raises(type(error), match=f"{first.version} is published again"):
        roll_out(second, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == first.version


@pytest.mark.parametrize("error", [SILENCE, FORBIDDEN], ids=["silent", "forbidden"])
def test_a_target_that_cannot_be_asked_is_found_before_anything_is_written(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake, error: EvergreenError
) -> None:
    first, second = registered(2), registered(3)
    roll_out(first, target, ledger, lake, **WHO)
    target.unseen = error
    with pytest.raises(type(error)):
        roll_out(second, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == first.version
    assert len(ledger.history("fraud")) == 1


class WorkerKilled(BaseException):
    """As SIGKILL: nothing of ours runs any more."""


def test_a_try_after_one_that_died_waiting_goes_back_as_the_first_would_have(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    good, bad = registered(2), registered(3)
    roll_out(good, target, ledger, lake, **WHO)

    class Dying(Target):
        def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
            raise WorkerKilled

    with pytest.raises(WorkerKilled):
        roll_out(bad, Dying(lake), ledger, lake, **WHO)
    assert serving(ledger, lake) == bad.version
    target.bad.add(bad.version)
    with pytest.raises(DataError, match=f"{good.version} is published again"):
        roll_out(bad, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == good.version


def test_what_served_stays_when_it_is_deployed_again_and_the_service_is_down(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    first, second, bad = (registered(day) for day in (2, 3, 4))
    for model in (first, second):
        roll_out(model, target, ledger, lake, **WHO)
    target.bad.add(bad.version)
    with pytest.raises(DataError, match=f"{second.version} is published again"):
        roll_out(bad, target, ledger, lake, **WHO)
    target.bad.add(second.version)
    with pytest.raises(DataError, match=f"It served before, so {second.version} stays published"):
        roll_out(second, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == second.version


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


@pytest.fixture
def good_and_bad(
    registered: Callable[[int], Model], target: Target, ledger: Ledger, lake: Lake
) -> tuple[Model, Model, Model]:
    """Three models that served one after the other; the second is good and the third, which serves, is not."""
    first, good, bad = (registered(day) for day in (2, 3, 4))
    for model in (first, good, bad):
        roll_out(model, target, ledger, lake, **WHO)
    return first, good, bad


def test_a_rollback_without_the_right_to_ask_leaves_all_as_it_was(
    good_and_bad: tuple[Model, Model, Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    *_, bad = good_and_bad
    target.unseen = target.unheard = FORBIDDEN
    with pytest.raises(ConfigurationError, match="Bind the Role"):
        roll_back("fraud", target, ledger, lake, **WHO)
    assert serving(ledger, lake) == bad.version
    assert len(ledger.history("fraud")) == 3


@pytest.mark.parametrize("error", [SILENCE, FORBIDDEN], ids=["silent", "forbidden"])
def test_a_rollback_that_cannot_be_seen_stays(
    good_and_bad: tuple[Model, Model, Model], target: Target, ledger: Ledger, lake: Lake, error: EvergreenError
) -> None:
    _, good, _ = good_and_bad
    target.unheard = error
    with pytest.raises(type(error), match=f"{good.version} is published.*evergreen doctor.*further back"):
        roll_back("fraud", target, ledger, lake, **WHO)
    assert serving(ledger, lake) == good.version


def test_a_rollback_needs_no_cluster_that_answers(
    good_and_bad: tuple[Model, Model, Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    _, good, _ = good_and_bad
    target.unseen = target.unheard = SILENCE
    with pytest.raises(TemporaryError, match="The rollback stays"):
        roll_back("fraud", target, ledger, lake, **WHO)
    assert serving(ledger, lake) == good.version


def test_asking_again_for_a_rollback_nobody_saw_never_leads_further_back(
    good_and_bad: tuple[Model, Model, Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    _, good, _ = good_and_bad
    target.unheard = SILENCE
    with pytest.raises(TemporaryError):
        roll_back("fraud", target, ledger, lake, **WHO)
    with pytest.raises(TemporaryError, match=f"It served before, so {good.version} stays published"):
        roll_out(good, target, ledger, lake, **WHO)
    assert serving(ledger, lake) == good.version
    target.unheard = None
    assert roll_out(good, target, ledger, lake, **WHO) == ledger.history("fraud")[-1]


def test_a_rollback_that_is_refused_is_undone(
    good_and_bad: tuple[Model, Model, Model], target: Target, ledger: Ledger, lake: Lake
) -> None:
    _, good, bad = good_and_bad
    target.bad.add(good.version)
    with pytest.raises(DataError, match=f"{bad.version} is published again"):
        roll_back("fraud", target, ledger, lake, **WHO)
    assert serving(ledger, lake) == bad.version


def test_a_rollback_nobody_saw_never_claims_what_another_rollout_changed(
    good_and_bad: tuple[Model, Model, Model], ledger: Ledger, lake: Lake
) -> None:
    *_, bad = good_and_bad

    class Slow(Target):
        def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
            roll_out(bad, Target(lake), ledger, lake, **WHO)
            raise SILENCE

    with pytest.raises(Overtaken, match="Another rollout came meanwhile"):
        roll_back("fraud", Slow(lake), ledger, lake, **WHO)
    assert serving(ledger, lake) == bad.version


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

    class Beaten(Ledger):
        def deploy(self, model: Model, *, actor: str, reason: str, at: object = None) -> Deployment:
            mine = ledger.deploy(model, actor=actor, reason=reason)
            ledger.deploy(fast, **WHO)
            return mine

    overtaken = Beaten.__new__(Beaten)
    overtaken.__dict__.update(ledger.__dict__)
    with pytest.raises(Overtaken, match=fast.version):
        roll_out(slow, target, overtaken, lake, **WHO)
    assert serving(ledger, lake) == fast.version


def test_an_undo_never_overrides_a_rollout_that_came_meanwhile(
    registered: Callable[[int], Model], ledger: Ledger, lake: Lake
) -> None:
    good, bad, other = (registered(day) for day in (2, 3, 4))
    roll_out(good, Target(lake), ledger, lake, **WHO)

    class Slow(Target):
        def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
            roll_out(other, Target(lake), ledger, lake, **WHO)
            raise SILENCE

    with pytest.raises(Overtaken, match="Another rollout came meanwhile"):
        roll_out(bad, Slow(lake), ledger, lake, **WHO)
    assert serving(ledger, lake) == other.version
