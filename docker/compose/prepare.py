"""Prepares what the other services find: bucket, Airflow's database and admin, the ledger, the pool of training pods.

Doing it again changes nothing but the admin's password and the number of training pods, which are as the
environment says.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio

from evergreen.settings import Settings
from evergreen.standalone.preparation import prepare


def make_bucket(settings: Settings) -> None:
    """Makes the lake's bucket unless it is there."""
    server, options = urlsplit(settings.lake_options["AWS_ENDPOINT_URL"]), settings.lake_options
    client = Minio(
        server.netloc,
        access_key=options["AWS_ACCESS_KEY_ID"],
        secret_key=options["AWS_SECRET_ACCESS_KEY"],
        region=options["AWS_REGION"],
        secure=server.scheme == "https",
    )
    bucket = urlsplit(settings.lake_url).netloc
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)


def main() -> None:
    """Everything, in the order in which it is needed."""
    settings = Settings.from_environment()
    make_bucket(settings)
    subprocess.run(["airflow", "db", "migrate"], check=True)  # noqa: S607
    prepare(settings, training_pods=int(os.environ["TRAINING_PODS_AT_ONCE"]))
    passwords = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))


if __name__ == "__main__":
    main()
