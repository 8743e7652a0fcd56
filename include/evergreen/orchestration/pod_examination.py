"""Gathers the facts about a failed pod from the operator, its exception and the cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from evergreen.orchestration.pod_facts import Facts, Json

logger = logging.getLogger(__name__)
QUICK = (5, 10)
"""Seconds to connect and to answer: a cluster that is away must not delay the sentence that says so."""
AWAY = (ApiException, HTTPError, ConfigException, OSError)
"""What a call to a cluster that does not want or cannot answer raises."""


def examine(operator: Any, error: BaseException, context: Mapping[str, Any]) -> Facts:
    """All that can be known now; what the cluster does not tell is left out."""
    pod = operator.remote_pod or operator.pod
    name = pod.metadata.name if pod else _name_of_this_try(context)
    facts = Facts(name=name, pod=_plain(pod) if pod else {}, error=error_text(error))
    if name is None:
        return facts
    events = _told(lambda: _events(operator, name))
    return Facts(
        name=name,
        pod=facts.pod,
        events=events or (),
        nodes=_told(lambda: _nodes(operator)) if _waited_for_a_node(events or ()) else None,
        error=facts.error,
    )


def error_text(error: BaseException) -> str:
    """The exception and those that led to it, the last first, each as `Class: message`."""
    return "\n".join(f"{type(link).__name__}: {link}" for link in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that led to it."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _name_of_this_try(context: Mapping[str, Any]) -> str | None:
    """The operator leaves the name as an XCom, which Airflow clears before every try."""
    instance = context["ti"]
    name: str | None = instance.xcom_pull(task_ids=instance.task_id, key="pod_name", map_indexes=instance.map_index)
    return name


def _waited_for_a_node(events: tuple[Json, ...]) -> bool:
    reasons = {event.get("reason") for event in events}
    return "FailedScheduling" in reasons and "Scheduled" not in reasons


def _events(operator: Any, name: str) -> tuple[Json, ...]:
    selector = f"involvedObject.name={name}"
    found = operator.client.list_namespaced_event(operator.namespace, field_selector=selector, _request_timeout=QUICK)
    return tuple(sorted((_plain(event) for event in found.items), key=_when))


def _nodes(operator: Any) -> tuple[Json, ...]:
    return tuple(_plain(node) for node in operator.client.list_node(_request_timeout=QUICK).items)


def _told(ask: Callable[[], tuple[Json, ...]]) -> tuple[Json, ...] | None:
    try:
        return ask()
    except AWAY as error:
        logger.info("The cluster does not tell more about the pod: %s", str(error).splitlines()[0])
        return None


def _when(event: Json) -> str:
    metadata = event.get("metadata") or {}
    return str(event.get("lastTimestamp") or event.get("eventTime") or metadata.get("creationTimestamp") or "")


def _plain(thing: Any) -> Json:
    """The thing as the API's JSON; the client needs no configuration for that."""
    plain: Json = ApiClient().sanitize_for_serialization(thing)
    return plain
