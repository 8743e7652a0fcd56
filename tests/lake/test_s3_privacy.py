"""TLS with an authority of one's own, and encryption on the server, reach objects and tables alike."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from minio import Minio

from evergreen.errors import ConfigurationError
from evergreen.lake.lake import Lake
from real_parts import S3Server

DAY = date(2026, 11, 1)
KMS_KEY = "testkey-1"
pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, and with `server.pem` and `server.key` of localhost that it signed."""
    folder = tmp_path_factory.mktemp("authority")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("an authority of our own")
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=None))
    server = _certificate(
        _name("localhost"), ca_name, key, ca_key, x509.SubjectAlternativeName([x509.DNSName("localhost")])
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return folder


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return builder.add_extension(extension, critical=False).sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def tls_endpoint(authority: Path, s3: S3Server) -> Iterator[str]:
    """The S3 server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    port = int(s3.endpoint.rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, context, port), daemon=True).start()
        yield f"https://localhost:{listening.getsockname()[1]}"


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        try:
            front = context.wrap_socket(connection, server_side=True)
        except OSError:  # a client that does not trust us
            connection.close()
            continue
        back = socket.create_connection(("127.0.0.1", port))
        for ends in ((front, back), (back, front)):
            threading.Thread(target=_relay, args=ends, daemon=True).start()


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    finally:
        source.close()
        target.close()


USE = """
import os, sys
from datetime import date
import pyarrow as pa
from evergreen.lake.lake import Lake
lake = Lake(sys.argv[1], {name: value for name, value in os.environ.items() if name.startswith("AWS_")})
table = lake.table("raw", "fraud")
table.verify(table.replace_day(date(2026, 11, 1), pa.table({"value": [1]})))
assert table.read([date(2026, 11, 1)]).num_rows == 1
# After the scan: a thread of Arrow's may still be closing its file, and would bring down a Python that ends meanwhile.
lake.objects.put("a", b"hello")
assert lake.objects.get("a") == b"hello"
"""


def test_authority_of_ones_own_is_trusted_by_its_bundle_alone(
    authority: Path, tls_endpoint: str, s3_lake: Lake
) -> None:
    """In a process of its own: deltalake's authorities are the process's."""
    options = {name: value for name, value in s3_lake.options.items() if name != "AWS_ALLOW_HTTP"}
    options |= {"AWS_ENDPOINT_URL": tls_endpoint, "AWS_CA_BUNDLE": str(authority / "ca.pem")}
    variables = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(
        [sys.executable, "-c", USE, s3_lake.url], env=variables | options, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_unknown_authority_is_refused_with_the_remedy(tls_endpoint: str, s3_lake: Lake) -> None:
    lake = Lake(s3_lake.url, {**s3_lake.options, "AWS_ENDPOINT_URL": tls_endpoint, "AWS_MAX_ATTEMPTS": "1"})
    for use in (lambda: lake.objects.get("a"), lambda: lake.table("raw", "fraud").exists()):
        with pytest.raises(ConfigurationError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
            use()


def test_every_object_and_file_is_encrypted_with_the_key(s3_lake: Lake, bucket: Minio) -> None:
    encryption = {"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": KMS_KEY}
    lake = Lake(s3_lake.url, {**s3_lake.options, **encryption})
    lake.objects.put("small", b"x")
    lake.objects.put("large", bytes(9 << 20))
    written = lake.table("raw", "fraud").replace_day(DAY, pa.table({"value": [1]}))
    lake.table("raw", "fraud").verify(written)
    assert lake.objects.get("small") == b"x"
    paths = lake.objects.list("")
    assert len(paths) == 5
    bucket_name, prefix = lake.objects.bucket, lake.objects.prefix
    headers = [bucket.stat_object(bucket_name, f"{prefix}/{path}").metadata for path in paths]
    assert {h["x-amz-server-side-encryption"] for h in headers} == {"aws:kms"}
    assert {h["x-amz-server-side-encryption-aws-kms-key-id"] for h in headers} == {KMS_KEY}


def test_unknown_encryption_key_is_refused(s3_lake: Lake) -> None:
    encryption = {"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": "no-such-key"}
    lake = Lake(s3_lake.url, {**s3_lake.options, **encryption})
    with pytest.raises(ConfigurationError, match="AWS_SSE_KMS_KEY_ID"):
        lake.objects.put("a", b"x")
