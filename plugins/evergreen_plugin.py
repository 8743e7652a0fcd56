"""Evergreen's pages in the Airflow UI. Imported by every Airflow process, so it loads nothing but itself."""

from __future__ import annotations

import importlib
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PAGES = "evergreen.orchestration.pages.app:app"


class LazyPages:
    """The pages' ASGI app, imported at its first request: tasks and the scheduler never pay for it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.app is None:
            module, name = self.path.split(":")
            self.app = getattr(importlib.import_module(module), name)
        await self.app(scope, receive, send)


class EvergreenPlugin(AirflowPlugin):
    """Adds the pipelines' page to the menu and the evidence of a task to the task's page."""

    name = "evergreen"
    fastapi_apps = [{"app": LazyPages(PAGES), "url_prefix": "/evergreen", "name": "evergreen"}]
    external_views = [
        {
            "name": "Evergreen",
            "href": "evergreen/",
            "destination": "nav",
            "url_route": "evergreen",
            "category": "browse",
        },
        {
            "name": "Evidence",
            "href": "evergreen/evidence/{DAG_ID}/{RUN_ID}/{TASK_ID}",
            "destination": "task_instance",
            "url_route": "evidence",
        },
    ]
