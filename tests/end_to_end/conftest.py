"""A whole standalone installation in a temporary directory: real PostgreSQL, Airflow, pods and serving."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from end_to_end.installation import (
    Installation,
    backfill,
    busy,
    day,
    ready_installation,
    variables_of,
    wait_for_nightly,
    wait_until,
    write_profiles,
    write_specs,
)
from end_to_end.state_of_airflow import airflow_of, state_of
from evergreen.standalone.control import start_detached, stop
from evergreen.standalone.home import Home


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test says what its Airflow was doing."""
    report = yield
    airflow = airflow_of(getattr(item, "funcargs", {}).values())
    if report.failed and airflow:
        try:
            report.sections.append(("runs that have not ended well", state_of(airflow)))
        except Exception as error:  # Airflow may be what failed
            report.sections.append(("runs that have not ended well", f"Airflow does not say: {error}"))
    return report


@pytest.fixture(scope="package")
def installation() -> Iterator[Installation]:
    """A running installation with two pipelines, one broken spec and thirteen days in its sources."""
    # Not pytest's folder: PostgreSQL runs as another user under root, and must be able to pass through.
    root = Path(mkdtemp(prefix="evergreen-e2e-"))
    variables = variables_of(root) | {"EVERGREEN_PROFILES": str(root / "profiles.yaml")}
    write_specs(Path(variables["EVERGREEN_PIPELINES"]))
    write_profiles(Path(variables["EVERGREEN_PROFILES"]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        home = Home.at(root)
        try:
            start_detached(home, lambda phase: None)
            ready = ready_installation(home, variables)
            yield ready
            ready.airflow.close()
        finally:
            stop(home)
            rmtree(root, ignore_errors=True)


@pytest.fixture(scope="package")
def ingested(installation: Installation) -> Installation:
    """The installation after a backfill of its first ten fraud days, and the nightly run that follows it."""
    backfill(installation, "fraud.ingest_data", day(0), day(9))
    wait_for_nightly(installation, "fraud.ingest_data")
    return installation


@pytest.fixture(scope="package")
def serving(ingested: Installation) -> Installation:
    """The installation after a first model was trained, approved and deployed."""
    ingested.succeed("train_model", "first", {"day": day(9).isoformat()})
    wait_until(lambda: ingested.ledger.current("fraud") is not None, "a first deployment")
    wait_until(lambda: not busy(ingested, "fraud.deploy_model"), "the end of its run")
    return ingested
