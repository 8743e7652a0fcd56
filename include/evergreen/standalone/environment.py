"""The environment every part of a standalone installation runs in."""

from __future__ import annotations

import os
from pathlib import Path

from evergreen.settings import IN_CLUSTER, LAKE_OPTION_PREFIXES, PROJECT, Settings
from evergreen.standalone.home import Home

LOOPBACK = "127.0.0.1"
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
CHOSEN_PREFIXES = ("EVERGREEN_", "AIRFLOW__", "AIRFLOW_CONN_", *LAKE_OPTION_PREFIXES)
"""What the caller may set: all of ours, any of Airflow's options (the executor, say), connections, the lake's keys."""


def part_environment(
    settings: Settings, home: Home, *, airflow_url: str, ledger_url: str, source_url: str
) -> dict[str, str]:
    """Variables for all parts: the caller's own settings first, the laptop's defaults for the rest."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    chosen = {name: value for name, value in os.environ.items() if name.startswith(CHOSEN_PREFIXES)}
    defaults = {
        "EVERGREEN_HOME": str(home.root),
        "EVERGREEN_LAKE_URL": settings.lake_url,
        "EVERGREEN_DATABASE_URL": ledger_url,
        "EVERGREEN_KUBECONFIG": str(settings.kubeconfig or IN_CLUSTER),
        "EVERGREEN_MADE_UP_DEVICES": str(settings.kubeconfig == home.kubeconfig),
        "EVERGREEN_SERVING_URL": settings.serving_url,
        "AIRFLOW_CONN_FRAUD_SOURCE": source_url,
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": "kubernetes://",
        "PYTHONPATH": str(PROJECT / "include"),
        "PYTHONUNBUFFERED": "1",
        "GX_ANALYTICS_ENABLED": "false",
    }
    return kept | _airflow(settings, home, airflow_url) | defaults | chosen


def _airflow(settings: Settings, home: Home, url: str) -> dict[str, str]:
    secrets = home.secrets()
    base = f"http://{LOOPBACK}:{settings.airflow_port}"
    return {
        "AIRFLOW_HOME": str(home.root / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(2 * (os.cpu_count() or 2)),
        "AIRFLOW__CORE__FERNET_KEY": secrets["fernet"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(home)),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": base,
        "AIRFLOW__API__SECRET_KEY": secrets["session"],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["jwt"],
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__DISABLE_BUNDLE_VERSIONING": "True",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home.root / "logs" / "tasks"),
    }


def passwords_file(home: Home) -> Path:
    """Where Airflow's simple auth manager looks for passwords."""
    return home.root / "airflow" / "passwords.json"
