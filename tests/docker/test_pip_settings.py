"""What uv is told of pip's settings, so that a mirror or a folder of wheels that pip knows serves it as well."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "uv_with_pip_settings.py"


def test_indexes_links_and_certificates_of_pip_reach_uv() -> None:
    told = runpy.run_path(str(SCRIPT))["of_pip"](
        "global.cert='/etc/ca.crt'\n"
        "global.extra-index-url='https://one.example/simple https://two.example/simple'\n"
        "global.find-links='\\n/wheels\\n/more'\n"
        "global.timeout='60'\n"
        "install.trusted-host='one.example'\n"
    )
    assert told == {
        "SSL_CERT_FILE": "/etc/ca.crt",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "one.example",
    }


def test_a_variable_goes_before_a_file() -> None:
    told = runpy.run_path(str(SCRIPT))["of_pip"](
        ":env:.index-url='https://mine.example/simple'\nglobal.index-url='https://theirs.example/simple'\n"
    )
    assert told == {"UV_DEFAULT_INDEX": "https://mine.example/simple"}
