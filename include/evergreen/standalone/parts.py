"""The parts of a standalone installation: what to run, and how to tell that it is ready."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass

import httpx

from evergreen.errors import ConfigurationError
from evergreen.settings import Settings
from evergreen.standalone.environment import LOOPBACK
from evergreen.standalone.home import Home


@dataclass(frozen=True, kw_only=True)
class Part:
    """One long-running process."""

    name: str
    command: tuple[str, ...]
    port: int | None = None
    """Port it listens on, if it does."""
    ready_url: str | None = None
    """URL that answers at all, whatever the status, once it is ready."""

    def ready(self) -> bool:
        """Whether it answers; a part without a URL is ready when it runs."""
        if self.ready_url is None:
            return True
        try:
            httpx.get(self.ready_url, timeout=2)
        except httpx.HTTPError:
            return False
        return True


def parts(settings: Settings, home: Home) -> list[Part]:
    """All parts but PostgreSQL, in the order in which they start; a cluster or serving found elsewhere is not ours."""
    # Airflow's log servers would listen on every interface; on one machine the api-server reads the files itself.
    python, airflow = sys.executable, (sys.executable, "-m", "airflow")
    airflow_url = f"http://{LOOPBACK}:{settings.airflow_port}"
    cluster = Part(
        name="cluster",
        command=(
            python, "-m", "evergreen.localcluster",
            "--directory", str(home.kubeconfig.parent), "--port", str(settings.cluster_port),
        ),
        port=settings.cluster_port,
        ready_url=f"http://{LOOPBACK}:{settings.cluster_port}/version",
    )  # fmt: skip
    serving = Part(
        name="serving",
        command=(python, "-m", "evergreen.serving", "--host", LOOPBACK, "--port", str(settings.serving_port)),
        port=settings.serving_port,
        ready_url=f"http://{LOOPBACK}:{settings.serving_port}/livez",
    )
    return [
        *([cluster] if settings.kubeconfig == home.kubeconfig else []),
        *([serving] if settings.serving_namespace is None else []),
        Part(
            name="api-server",
            command=(*airflow, "api-server"),
            port=settings.airflow_port,
            ready_url=f"{airflow_url}/api/v2/version",
        ),
        Part(name="scheduler", command=(python, "-m", "evergreen.standalone.scheduler")),
        Part(name="dag-processor", command=(*airflow, "dag-processor")),
        Part(name="triggerer", command=(*airflow, "triggerer", "--skip-serve-logs")),
    ]


def require_free_ports(wanted: list[Part]) -> None:
    """Nothing, when every port can be listened on; ConfigurationError naming the first that is taken."""
    for part in wanted:
        if part.port is not None and _taken(part.port):
            variable = {"api-server": "AIRFLOW"}.get(part.name, part.name.upper())
            raise ConfigurationError(
                f"Port {part.port} for {part.name}",
                found="another program listening there",
                wanted="a free port",
                remedy=f"End that program, or set EVERGREEN_{variable}_PORT to another port.",
            )


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
