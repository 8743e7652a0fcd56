"""The fixture `local_cluster`, for tests of DAGs and pods.

Enable it in the root conftest: `pytest_plugins = ["evergreen.localcluster.pytest_plugin"]`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evergreen.localcluster.server_process import LocalCluster


@pytest.fixture
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A fresh local cluster, stopped with all its pods when the test is over.

    It has `.kubeconfig`, `.faults`, `.pods()`, `.stop()` and `.restart()` (kill the server, take the pods over).
    """
    cluster = LocalCluster(tmp_path_factory.mktemp("local_cluster"))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
