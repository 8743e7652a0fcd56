"""What the `AWS_*` variables mean, and that they bound every wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evergreen.errors import ConfigurationError
from evergreen.lake.lake import Lake
from evergreen.lake.s3_objects import _pool
from evergreen.lake.s3_options import S3Options

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret"}


def test_defaults_are_amazons_own_server_over_tls() -> None:
    options = S3Options.from_variables(KEYS)
    assert (options.endpoint, options.region, options.encryption) == (None, "us-east-1", None)


def test_a_failing_request_ends_within_half_a_minute_and_an_upload_that_is_called_off_within_one() -> None:
    assert S3Options().longest_request_seconds < 34
    retries = _pool(S3Options()).connection_pool_kw["retries"]
    assert (retries.total, retries.read, retries.respect_retry_after_header) == (3, 1, False)
    tables = S3Options().for_tables({})
    assert {name: tables[name] for name in ("timeout", "connect_timeout", "max_retries", "retry_timeout")} == {
        "timeout": "10000ms",
        "connect_timeout": "2000ms",
        "max_retries": "3",
        "retry_timeout": "15000ms",
    }


def test_tables_get_the_variables_but_ours() -> None:
    given = KEYS | {"AWS_TIMEOUT_SECONDS": "3", "AWS_SSE_KMS_KEY_ID": "k", "AWS_SESSION_TOKEN": ""}
    tables = S3Options.from_variables(given).for_tables(given)
    assert tables["AWS_SSE_KMS_KEY_ID"] == "k"
    assert tables["timeout"] == "3000ms"
    assert not {"AWS_TIMEOUT_SECONDS", "AWS_SESSION_TOKEN"} & set(tables)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://s3:9000"}, r"plain http to s3:9000.*AWS_ALLOW_HTTP=true"),
        ({"AWS_ENDPOINT_URL": "s3:9000"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "https://s3/path"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "https://me:s3cret@s3"}, "AWS_ENDPOINT_URL"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "one of the two"),
        ({"AWS_CA_BUNDLE": "/nowhere.pem"}, "AWS_CA_BUNDLE: found no file"),
        ({"AWS_SERVER_SIDE_ENCRYPTION": "sse-c"}, "AWS_SERVER_SIDE_ENCRYPTION: found 'sse-c'"),
        ({"AWS_TIMEOUT_SECONDS": "soon"}, "AWS_TIMEOUT_SECONDS: found 'soon'"),
        ({"AWS_MAX_ATTEMPTS": "0"}, "AWS_MAX_ATTEMPTS"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_variable_that_cannot_be_meant_is_refused(given: dict[str, str], message: str) -> None:
    lake = Lake("s3://bucket/prefix", KEYS | given)
    for use in (lambda: lake.objects, lambda: lake.table("raw", "fraud")):
        with pytest.raises(ConfigurationError, match=message) as refused:
            use()
        assert "s3cret" not in f"{refused.value} {refused.value.details}"


def test_secrets_do_not_show_in_the_options_name() -> None:
    shown = repr(S3Options.from_variables(KEYS | {"AWS_SESSION_TOKEN": "t0ken"}))
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_authorities_of_a_bundle_are_trusted_by_both_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    Lake("s3://bucket", KEYS | {"AWS_CA_BUNDLE": str(bundle)}).table("raw", "fraud")
    assert os.environ["SSL_CERT_FILE"] == str(bundle)
