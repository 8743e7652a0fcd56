"""Source credentials from Airflow's connections; they never leave the task's memory."""

from __future__ import annotations

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from evergreen.errors import ConfigurationError


def connection_url(name: str) -> str:
    """URL of the Airflow connection `name`, password included; ConfigurationError when there is none."""
    try:
        return str(Connection.get(name).get_uri())
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"Connection {name}",
            found="no such connection in Airflow",
            wanted="the source database of the pipeline",
            remedy=f"Add it under Admin, Connections, or set AIRFLOW_CONN_{name.upper()}.",
        ) from error
