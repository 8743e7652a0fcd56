from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def test_process_killed_by_a_signal_reports_128_plus_the_signal(pods: Any) -> None:
    pods.python("killed", "import os; os.kill(os.getpid(), 9)")
    assert pods.ended("killed").exit_code == 137


def test_shim_stays_light_so_that_a_pod_starts_fast() -> None:
    program = "import sys, evergreen.localcluster.shim; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "starlette", "uvicorn", "yaml", "asyncio", "numpy"} & set(loaded)


def test_container_sees_what_its_spec_says_and_nothing_else_of_ours(pods: Any) -> None:
    pods.python(
        "surroundings",
        "import os, sys, json; print(json.dumps([sorted(os.environ), sys.argv[1:], os.environ['B']]))",
        container={
            "args": ["--day", "$(A)", "$$(A)", "$(UNKNOWN)"],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)2"},
                {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
        },
    )
    pods.phase("surroundings", "Succeeded")
    names, arguments, b = json.loads(pods.log("surroundings")[0])
    ours = {"HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert set(names) - ours == {
        "A",
        "B",
        "ME",
        "PATH",
        "TMPDIR",
        "HOSTNAME",
        "EVERGREEN_POD_UID",
        "EVERGREEN_TERMINATION_LOG",
    }
    assert arguments == ["--day", "1", "$(A)", "$(UNKNOWN)"]
    assert b == "12"


def test_variable_that_names_a_mounted_path_leads_to_the_volume(pods: Any) -> None:
    pods.python(
        "mounted",
        "import os, tempfile; e = os.environ; open(e['CACHE'], 'w').close(); "
        "print(tempfile.gettempdir() == e['EVERGREEN_MOUNT_SCRATCH'], os.listdir(e['HOME']), e['OTHER'])",
        volumes=[{"name": "scratch", "emptyDir": {}}],
        container={
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            "env": [
                {"name": "TMPDIR", "value": "/scratch"},
                {"name": "HOME", "value": "/scratch/"},
                {"name": "CACHE", "value": "$(TMPDIR)/cache"},
                {"name": "OTHER", "value": "/scratches"},
            ],
        },
    )
    pods.phase("mounted", "Succeeded")
    assert pods.log("mounted") == ["True ['cache'] /scratches"]
