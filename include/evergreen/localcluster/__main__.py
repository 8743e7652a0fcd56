"""`python -m evergreen.localcluster --directory DIR --port P`: serve the cluster until told to stop.

SIGTERM ends the pods too, as the orderly shutdown of a node does. After a crash or SIGKILL the pods run on, and the
next server in the same directory takes them over.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from evergreen.errors import ConfigurationError, EvergreenError, TemporaryError
from evergreen.localcluster.app import build_app
from evergreen.localcluster.cluster import Cluster
from evergreen.localcluster.credentials import cluster_token, write_kubeconfig
from evergreen.localcluster.nodes import parse_node, this_machine

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_STREAMS_MAY_LAST_SECONDS = 1
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients pause between polls: a connection closed just as it is used again looks like an outage."""


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 after an orderly stop, else what evergreen.errors says."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve(options)
    except EvergreenError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evergreen.localcluster", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="state, logs, token and kubeconfig")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        help="name=NAME,cpu=2,memory=8Gi,nvidia.com/gpu=1,label:KEY=VALUE; repeatable",
    )
    return parser.parse_args(arguments)


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; errors say when the directory or the port is taken."""
    nodes = [parse_node(text) for text in options.node] or [this_machine()]
    directory: Path = options.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(directory)
    listener = _listen(options.port)
    token = cluster_token(directory)
    cluster = Cluster(directory, nodes, os.environ)
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(cluster, token),
            log_config=None,
            access_log=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STREAMS_MAY_LAST_SECONDS,
        )
    )
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    logger.info("local cluster at %s, kubeconfig %s", url, write_kubeconfig(directory, url, token))
    # uvicorn raises the signal again after its shutdown; by then everything is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    os.close(lock)


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"local cluster in {directory}",
            found="another server at work there",
            wanted="one server a directory",
            remedy="Stop the other one, or choose another --directory.",
        ) from error
    return descriptor


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        raise TemporaryError(
            "local cluster",
            found=f"port {port} in use",
            wanted="a free port",
            remedy="Stop what listens there, or set another --port.",
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
