"""The services of docker/compose.yaml whose images are ours: their own commands, environments and health checks, run
from the built images against a real PostgreSQL, Redis and S3 server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg2
import pytest
from minio import Minio

from docker.compose_file import FOLDER, compose, environment_of, example_variables
from docker.conftest import ImagePods
from end_to_end.celery_parts import redis_server
from evergreen.settings import VERSION
from forwarding import forwarding
from real_parts import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

NODE = "10.213.0.1"
AIRFLOW_USER = 50000
PASSWORD = "b0a7"


@dataclass(frozen=True)
class Backends:
    """Real servers in the place of the compose file's, and what the services' variables become with them."""

    pods: ImagePods
    content: dict[str, Any]
    folders: dict[str, Path]
    overrides: dict[str, str]
    database: Path
    s3: S3Server
    bucket: str

    def start(self, service: str, **variables: str) -> str:
        """Name of a pod that is the service as the compose file describes it, on these servers."""
        described = self.content["services"][service]
        given = environment_of(described)
        environment = given | {name: value for name, value in self.overrides.items() if name in given} | variables
        airflow = described["image"].startswith("evergreen-airflow")
        folders = self.folders if airflow else {"/var/lib/evergreen": self.folders["/var/lib/evergreen"]}
        return self.pods.start(
            described["image"], described.get("command"), probe=_probe(described), folders=folders, **environment
        )

    def rows(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        connection = psycopg2.connect(dbname=database, user="postgres", host=str(self.database))
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


@pytest.fixture(scope="module")
def backends(
    pods: ImagePods,
    airflow_image: str,
    serving_image: str,
    s3: S3Server,
    start_postgres: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backends]:
    """PostgreSQL, Redis and S3, with nothing in them."""
    postgres, bucket = start_postgres(), f"compose-{uuid4().hex[:8]}"
    for name in ("airflow", "evergreen"):
        postgres.psql(f"create database {name};")
    socket = Path(postgres.get_uri().partition("?host=")[2])
    socket.chmod(0o711)
    state, serving = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("serving")
    os.chown(state, AIRFLOW_USER, 0)
    os.chown(serving, 10001, 10001)
    with ExitStack() as stack:
        redis = urlsplit(stack.enter_context(redis_server(tmp_path_factory.mktemp("redis"))))
        assert redis.port is not None
        s3_port = urlsplit(s3.endpoint).port
        assert s3_port is not None
        redis_port = stack.enter_context(forwarding(NODE, redis.port))
        object_port = stack.enter_context(forwarding(NODE, s3_port))
        yield Backends(
            pods=pods,
            content=compose(_variables(s3, bucket)),
            folders={
                "/opt/airflow": state,
                str(socket): socket,
                "/opt/evergreen/prepare.py": FOLDER / "compose" / "prepare.py",
                "/var/lib/evergreen": serving,
            },
            overrides={
                "AWS_ENDPOINT_URL": f"http://{NODE}:{object_port}",
                "EVERGREEN_DATABASE_URL": f"postgresql+psycopg2://postgres@/evergreen?host={socket}",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@/airflow?host={socket}",
                "AIRFLOW__CELERY__BROKER_URL": f"redis://:{redis.password}@{NODE}:{redis_port}/0",
                "EVERGREEN_KUBECONFIG": "/tmp/none",  # noqa: S108
            },
            database=socket,
            s3=s3,
            bucket=bucket,
        )


def test_prepare_makes_what_the_others_need_and_may_run_again(backends: Backends) -> None:
    for _ in range(2):
        name = backends.start("prepare")
        pod = backends.pods.wait(name, "Succeeded", "Failed")
        assert pod.status.phase == "Succeeded", backends.pods.log(name)
    assert backends.rows("airflow", "select slots, include_deferred from slot_pool where pool = 'gpu'") == [(1, True)]
    assert backends.rows("evergreen", "select count(*) from evergreen.alembic_version") == [(1,)]
    keys = {"access_key": backends.s3.options["AWS_ACCESS_KEY_ID"], "secret_key": _secret(backends.s3)}
    assert Minio(urlsplit(backends.s3.endpoint).netloc, **keys, secure=False).bucket_exists(backends.bucket)


def test_every_service_of_airflow_becomes_healthy_by_its_own_check(backends: Backends) -> None:
    api_server = backends.start("airflow-api-server")
    backends.pods.ready(api_server)
    address = backends.pods.wait(api_server, "Running").status.pod_ip
    login = {"username": "admin", "password": PASSWORD}
    assert httpx.post(f"http://{address}:8080/auth/token", json=login, timeout=120).status_code == 201
    api = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{address}:8080/execution/"}
    for service in ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-worker"):
        name = backends.start(service, **api)
        backends.pods.ready(name)
        backends.pods.delete(name)
    backends.pods.delete(api_server)


def test_serving_becomes_healthy_on_the_object_store(backends: Backends) -> None:
    name = backends.start("serving")
    backends.pods.ready(name)
    address = backends.pods.wait(name, "Running").status.pod_ip
    pipelines = httpx.get(f"http://{address}:8000/readyz", timeout=120).json()["pipelines"]
    assert pipelines["fraud"]["errors"] in ([], {}, None), pipelines
    assert "evergreen" in httpx.get(f"http://{address}:8000/metrics", timeout=120).text
    backends.pods.delete(name)


def _variables(s3: S3Server, bucket: str) -> dict[str, str]:
    """The example file, filled in."""
    filled = {name: value or PASSWORD for name, value in example_variables().items()}
    return filled | {
        "EVERGREEN_VERSION": VERSION,
        "AIRFLOW_FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "AIRFLOW_JWT_SECRET": PASSWORD * 16,
        "LAKE_BUCKET": bucket,
        "LAKE_ACCESS_KEY": s3.options["AWS_ACCESS_KEY_ID"],
        "LAKE_SECRET_KEY": _secret(s3),
        "FRAUD_SOURCE": "postgres://nobody@127.0.0.1:1/source",
    }


def _secret(s3: S3Server) -> str:
    return s3.options["AWS_SECRET_ACCESS_KEY"]


def _probe(service: dict[str, Any]) -> list[str] | None:
    if "healthcheck" not in service:
        return None
    kind, *words = service["healthcheck"]["test"]
    return words if kind == "CMD" else ["sh", "-c", words[0].replace("$$", "$")]
