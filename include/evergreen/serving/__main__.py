"""`python -m evergreen.serving [--host 127.0.0.1] [--port N]`: serves every pipeline until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys

import uvicorn

from evergreen.errors import ConfigurationError, EvergreenError
from evergreen.lake.lake import Lake
from evergreen.pipeline_file import read_pipelines
from evergreen.serving.access import require_safe_binding
from evergreen.serving.app import create_app
from evergreen.serving.config import ServingConfig
from evergreen.serving.prediction_log import lock_journal
from evergreen.serving.service import Service
from evergreen.settings import Settings

logger = logging.getLogger("evergreen.serving")
STOP_SECONDS = 30


def main(arguments: list[str] | None = None) -> int:
    """The process' exit code: 0 after a clean stop, an error's own code when it could not start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.from_environment()
        options = _options(settings, arguments)
        serve(settings, options.host, options.port)
    except EvergreenError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


def serve(settings: Settings, host: str, port: int, config: ServingConfig | None = None) -> None:
    """Returns after a clean stop. Raises ConfigurationError when it may not or cannot listen there."""
    config = config or ServingConfig()
    require_safe_binding(host, settings.serving_token)
    with _listening(host, port) as listener:
        lock_journal(settings.home / "serving" / "journal")
        served = services(settings, config)
        app = create_app(served, config, token=settings.serving_token)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_SECONDS)
        )
        # uvicorn stops cleanly on these, then raises them once more: without this the exit would not be 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        logger.info("serving %s on http://%s:%d", ", ".join(served), *listener.getsockname()[:2])
        server.run(sockets=[listener])


def services(settings: Settings, config: ServingConfig) -> dict[str, Service]:
    """A service for each readable spec; one that cannot be served is logged and left out."""
    lake = Lake(settings.lake_url, settings.lake_options)
    pipelines, errors = read_pipelines(settings.pipelines)
    found: dict[str, Service] = {}
    for pipeline in pipelines:
        try:
            found[pipeline.pipeline] = Service(pipeline, lake, settings.home / "serving" / "journal", config)
        except ConfigurationError as error:
            errors.append(error)
    for refusal in errors:
        logger.error("a pipeline is not served: %s", refusal)
    return found


def _options(settings: Settings, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evergreen.serving", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need a token")
    parser.add_argument("--port", type=int, default=settings.serving_port, help="port to listen on; 0 for a free one")
    return parser.parse_args(arguments)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"Port {port} on {host}",
            found=getattr(error, "strerror", None) or str(error),
            wanted="a free port",
            remedy="End the program that listens there, or choose another --port.",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
