"""The only reader of environment variables; everything else is handed values.

Settings say where things are (lake, databases, cluster, services), never what a pipeline does:
that is the spec's business. Outgrowing the laptop is a matter of these variables alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evergreen.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]
LAKE_OPTION_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")


@dataclass(frozen=True, kw_only=True)
class Rendezvous:
    """Where the machines of one training meet."""

    nodes: int
    """Machines, or pods, of the training."""
    index: int
    """Place of this one among them; 0 holds the meeting."""
    endpoint: str
    """`host:port` at which the others find it."""
    address: str | None
    """Address of this one, where its host name does not resolve."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the parts of one installation are found."""

    home: Path
    """Run directory of `evergreen up`: databases, logs, tokens, the local lake."""
    lake_url: str
    """Root of the lake: a `file://` or `s3://` URL."""
    lake_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Object-store credentials and endpoint, as `AWS_*`-style names."""
    database_url: str = field(repr=False)
    """SQLAlchemy URL of the ledger's PostgreSQL."""
    kubeconfig: Path | None
    """Kubeconfig of the cluster that runs training pods; None: the service account of the pod we are in."""
    namespace: str
    """Namespace of training pods."""
    service_account: str | None
    """Service account of training pods; None: the namespace's default one."""
    profiles: Path
    """File of resource profiles."""
    pipelines: Path
    """Folder of pipeline specs, one YAML each."""
    serving_url: str
    """Base URL of the serving microservice."""
    serving_namespace: str | None
    """Namespace of the serving Deployment; None: serving is the one process at `serving_url`."""
    serving_port: int
    serving_token: str | None = field(default=None, repr=False)
    """Bearer token that predict requests must carry; needed to listen beyond this machine."""
    airflow_port: int
    cluster_port: int
    trainer_image: str
    """Image of training and evaluation pods."""
    code_version: str
    """Version of the code, written on every receipt."""
    price_per_hour: float = 0.0
    """Price of an hour in this pod, from its resource profile."""
    watts: float = 0.0
    """Power this pod is taken to draw, from its resource profile."""
    made_up_devices: bool = False
    """Whether the cluster's GPUs are only said to be there, as on one machine: steps then train on the CPU."""
    expected_device: str | None = None
    """Kind of device that the pod's resource profile asked for, `cuda` or `xla`; None: whatever is there."""
    rendezvous: Rendezvous | None = None
    """Where several pods that train one model meet; None: this one trains alone."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings of this process, with the laptop's defaults where a variable is absent."""
        home = Path(environment.get("EVERGREEN_HOME", PROJECT / ".evergreen")).absolute()
        serving_port = _port(environment, "EVERGREEN_SERVING_PORT", 8000)
        return cls(
            home=home,
            lake_url=environment.get("EVERGREEN_LAKE_URL", (home / "lake").as_uri()),
            lake_options={k: v for k, v in environment.items() if k.startswith(LAKE_OPTION_PREFIXES)},
            database_url=environment.get("EVERGREEN_DATABASE_URL", _socket_url(home, "evergreen")),
            kubeconfig=_kubeconfig(environment, home),
            namespace=environment.get("EVERGREEN_NAMESPACE", "default"),
            service_account=environment.get("EVERGREEN_SERVICE_ACCOUNT") or None,
            profiles=Path(environment.get("EVERGREEN_PROFILES", PROJECT / "include" / "profiles.yaml")),
            pipelines=Path(environment.get("EVERGREEN_PIPELINES", PROJECT / "include" / "pipelines")),
            serving_url=environment.get("EVERGREEN_SERVING_URL", f"http://127.0.0.1:{serving_port}"),
            serving_namespace=environment.get("EVERGREEN_SERVING_NAMESPACE") or None,
            serving_port=serving_port,
            serving_token=environment.get("EVERGREEN_SERVING_TOKEN") or None,
            airflow_port=_port(environment, "EVERGREEN_AIRFLOW_PORT", 8080),
            cluster_port=_port(environment, "EVERGREEN_CLUSTER_PORT", 6445),
            trainer_image=environment.get("EVERGREEN_TRAINER_IMAGE", f"evergreen-trainer:{VERSION}"),
            code_version=environment.get("EVERGREEN_CODE_VERSION", VERSION),
            price_per_hour=_amount(environment, "EVERGREEN_PRICE_PER_HOUR"),
            watts=_amount(environment, "EVERGREEN_WATTS"),
            made_up_devices=environment.get("EVERGREEN_MADE_UP_DEVICES", "").lower() in ("1", "true"),
            expected_device=environment.get("EVERGREEN_EXPECTED_DEVICE") or None,
            rendezvous=_rendezvous(environment),
        )


VERSION = "0.1.0"
IN_CLUSTER = "in-cluster"


def _rendezvous(environment: Mapping[str, str]) -> Rendezvous | None:
    """An indexed Job gives each of its pods JOB_COMPLETION_INDEX; pods that are no Job's name their own index."""
    endpoint = environment.get("EVERGREEN_RENDEZVOUS")
    if not endpoint:
        return None
    index = environment.get("EVERGREEN_NODE_INDEX", environment.get("JOB_COMPLETION_INDEX", ""))
    nodes = environment.get("EVERGREEN_NODES", "")
    if not (nodes.isdigit() and index.isdigit() and int(index) < int(nodes)):
        raise ConfigurationError(
            "Pods of a training",
            found=f"index {index!r} of {nodes!r}",
            wanted="EVERGREEN_NODES and, below it, JOB_COMPLETION_INDEX or EVERGREEN_NODE_INDEX",
            remedy="Set them on every pod that shares EVERGREEN_RENDEZVOUS.",
        )
    address = environment.get("EVERGREEN_POD_ADDRESS") or None
    return Rendezvous(nodes=int(nodes), index=int(index), endpoint=endpoint, address=address)


def _kubeconfig(environment: Mapping[str, str], home: Path) -> Path | None:
    chosen = environment.get("EVERGREEN_KUBECONFIG") or home / "cluster" / "kubeconfig"
    return None if chosen == IN_CLUSTER else Path(chosen)


def _socket_url(home: Path, database: str) -> str:
    return f"postgresql+psycopg2://postgres@/{database}?host={home / 'postgres'}"


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise ConfigurationError(
            name, found=repr(text), wanted="a port from 1 to 65535", remedy="Correct the variable."
        )
    return int(text)


def _amount(environment: Mapping[str, str], name: str) -> float:
    """The variable's number, 0 where it is not set."""
    text = environment.get(name) or "0"
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise ConfigurationError(name, found=repr(text), wanted="a number from 0 on", remedy="Correct the variable.")
    return amount
