from __future__ import annotations

from typing import Any

import pytest

from evergreen.errors import ConfigurationError
from evergreen.localcluster.nodes import parse_node


def test_node_selector_is_honoured(pods: Any) -> None:
    pods.python("here", "", nodeSelector={"pool": "gpu"})
    assert pods.phase("here", "Succeeded").spec.node_name == "local-0"


def test_node_is_listed_with_what_it_offers(api: Any) -> None:
    (node,) = api.list_node().items
    assert node.metadata.name == "local-0"
    assert node.status.allocatable["nvidia.com/gpu"] == "1"
    assert node.status.allocatable["cpu"] == "4"
    assert node.status.allocatable["memory"] == str(8 << 30)
    assert api.read_node("local-0").metadata.labels["pool"] == "gpu"


@pytest.mark.parametrize("text", ["cpu=2", "name=a,cpu=two", "name=a,memory=1GiB"])
def test_node_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--node"):
        parse_node(text)
