"""The images of docker/, built and loaded into the real cluster beside the tests that need none.

A build of something unchanged is known by the digest of what goes into it, and left out.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from evergreen.settings import VERSION
from real_parts import STATE, start_cluster, tools_at_hand

PROJECT = Path(__file__).resolve().parents[1]
CONTENT = {
    "trainer": ("include",),
    "keras": ("include",),
    "serving": ("include",),
    "airflow": ("include", "dags", "plugins"),
}
"""Folders that each image copies, beside its own."""


Builds = dict[str, Future[str]]
"""Kind of image -> its name, once it is built."""


@pytest.fixture(scope="session", autouse=True)
def images(request: pytest.FixtureRequest) -> Iterator[Builds]:
    """Builds of the images that tests of this session want, begun with the session, one after the other."""
    tools = tools_at_hand()
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    kinds = [kind for kind in CONTENT if tools and f"{kind}_image" in wanted]
    builder = ThreadPoolExecutor(max_workers=1)
    yield {kind: builder.submit(build_image, tools, kind) for kind in kinds}
    builder.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def trainer_image(tools: Path, images: Builds) -> str:
    """Name of the trainer image on the real cluster; CPU build of torch where pip's own settings lead to that."""
    return images["trainer"].result()


@pytest.fixture(scope="session")
def keras_image(tools: Path, images: Builds) -> str:
    """Name of the Keras trainer's image on the real cluster."""
    return images["keras"].result()


@pytest.fixture(scope="session")
def serving_image(tools: Path, images: Builds) -> str:
    """Name of the serving image on the real cluster."""
    return images["serving"].result()


@pytest.fixture(scope="session")
def airflow_image(tools: Path, images: Builds) -> str:
    """Name of the Airflow image on the real cluster."""
    return images["airflow"].result()


def build_image(tools: Path, kind: str) -> str:
    """Name of the image, which the real cluster now has as the project is."""
    kubeconfig = start_cluster(tools)
    name = f"evergreen-{kind}:{VERSION}"
    # A cluster made anew has new keys in its kubeconfig, and none of our images.
    wanted = _digest([kubeconfig, *_content(kind)])
    stamp = STATE / "images" / kind
    if not stamp.exists() or stamp.read_text() != wanted:
        _build(tools, name, kind)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)
    return name


def _build(tools: Path, name: str, kind: str) -> None:
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    arguments = ("--build-arg", f"VERSION={VERSION}", "--build-arg", f"COMMIT={revision.stdout.strip() or 'unknown'}")
    command = [str(tools / "kube-up"), "image", name, f"docker/{kind}/Dockerfile", ".", *arguments]
    done = subprocess.run(["nice", "-n", "15", *command], cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, f"the build of {name} failed:\n{done.stderr[-4000:]}"


def _content(kind: str) -> Iterable[Path]:
    yield PROJECT / "docker/uv_with_pip_settings.py"
    for folder in (f"docker/{kind}", "docker/kernels", *CONTENT[kind]):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path):
                yield path


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
