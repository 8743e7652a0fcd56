"""What the client of Airflow's REST API asks for, against an api-server in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from evergreen.standalone.airflow_client import AirflowClient


@dataclass
class Pools:
    """Airflow's pools: a patch needs a whole pool, and changes what its mask names."""

    pools: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body.keys() >= {"name", "slots", "include_deferred"}
        if request.method == "PATCH":
            mask = request.url.params.get_list("update_mask") or body.keys()
            self.pools[body["name"]] |= {name: body[name] for name in mask}
            return httpx.Response(200, json=body)
        if body["name"] in self.pools:
            return httpx.Response(409)
        self.pools[body["name"]] = body
        return httpx.Response(201, json=body)


def _client(pools: Pools) -> AirflowClient:
    client = AirflowClient("http://airflow", "admin", "password")
    vars(client)["http"] = httpx.Client(base_url=client.url, transport=httpx.MockTransport(pools))
    return client


def test_pool_that_is_missing_is_made() -> None:
    pools = Pools()
    _client(pools).ensure_pool("gpu", 1, "Training pods at once")
    assert pools.pools["gpu"]["slots"] == 1
    assert pools.pools["gpu"]["include_deferred"] is True


def test_pool_keeps_the_slots_it_was_given() -> None:
    mine = {"name": "gpu", "slots": 8, "description": "ours", "include_deferred": False}
    pools = Pools({"gpu": mine})
    _client(pools).ensure_pool("gpu", 1, "Training pods at once")
    assert pools.pools["gpu"] == mine | {"include_deferred": True}
