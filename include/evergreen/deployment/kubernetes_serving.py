"""The serving Deployment of a cluster: every replica has to answer with the new version."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from evergreen.artifacts import Deployment
from evergreen.deployment.http_serving import HttpServing
from evergreen.deployment.replicas import Replica
from evergreen.deployment.serving_cluster import ServingCluster
from evergreen.errors import TemporaryError

logger = logging.getLogger(__name__)
ASK_SECONDS = 0.5
ASKED_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class KubernetesServing:
    """The serving Deployment in `namespace`; a ServingTarget."""

    namespace: str
    kubeconfig: Path | None
    """None: the cluster this process runs in."""

    def look(self) -> None:
        """Returns when the API server lets replicas be asked, whatever they would answer.

        Raises ConfigurationError when there is no Deployment or no right to ask, TemporaryError when the API
        server does not answer.
        """
        cluster = ServingCluster.connect(self.namespace, self.kubeconfig)
        if not cluster.replicas():
            cluster.why_empty()
        cluster.require_proxy()

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        """Returns once every replica that ever ran has the version and scored example rows with it.

        Replicas that come meanwhile are asked too; those on their way out, on a lost node, or still waiting for
        a node or an image, are not: they take no requests, and a new one loads what is published before it does.
        Raises TemporaryError when that does not happen within `timeout_seconds`, DataError when a replica
        refuses the model, ConfigurationError when there is no Deployment or no right to ask.
        """
        started = time.monotonic()
        survey = Survey(ServingCluster.connect(self.namespace, self.kubeconfig), deployment)
        while (late := survey.late()) is not None:
            if time.monotonic() >= started + timeout_seconds:
                raise late
            time.sleep(ASK_SECONDS)
        logger.info("%s: all answer with it after %.1f s", deployment.to_version, time.monotonic() - started)


@dataclass
class Survey:
    """Which replicas answered with `deployment` so far."""

    cluster: ServingCluster
    deployment: Deployment
    confirmed: set[str] = field(default_factory=set)
    """Uids of pods."""
    progress: str = ""

    def late(self) -> TemporaryError | None:
        """What to raise if time is up now; None once all there are have answered, nobody new among them."""
        try:
            replicas = self.cluster.replicas()
            if not replicas:
                return self._late(self.cluster.why_empty(), f"See `kubectl -n {self.cluster.namespace} get events`.")
        except TemporaryError as error:
            return error
        asked = [replica for replica in replicas if replica.reachable and replica.uid not in self.confirmed]
        answers = self._ask(asked)
        self._tell(replicas)
        if asked or not self._answering(replicas):
            return self._explain(replicas, answers)
        self._warn_of_waiting(replicas)
        return None

    def _ask(self, replicas: list[Replica]) -> dict[str, str]:
        """What is missing by replica; those that miss nothing are confirmed."""
        with ThreadPoolExecutor(ASKED_AT_ONCE, "replicas") as threads:
            found = dict(zip(replicas, threads.map(self._missing, replicas), strict=True))
        self.confirmed.update(replica.uid for replica, missing in found.items() if missing is None)
        return {replica.name: missing for replica, missing in found.items() if missing is not None}

    def _missing(self, replica: Replica) -> str | None:
        service = HttpServing(f"http://{replica.name}", self.cluster.asker(replica))
        return service.missing(self.deployment)

    def _answering(self, replicas: list[Replica]) -> int:
        return sum(replica.uid in self.confirmed for replica in replicas)

    def _tell(self, replicas: list[Replica]) -> None:
        progress = f"{self._answering(replicas)} of {len(replicas)} replicas answer with {self.deployment.to_version}"
        if progress != self.progress:
            logger.info("%s: %s", self.cluster.namespace, progress)
        self.progress = progress

    def _warn_of_waiting(self, replicas: list[Replica]) -> None:
        for replica in replicas:
            if not replica.reachable:
                why = replica.trouble or "it is being started"
                logger.warning("%s takes no requests (%s) and was not waited for", replica.name, why)

    def _explain(self, replicas: list[Replica], answers: dict[str, str]) -> TemporaryError:
        """The first replica that does not answer: of those waited for, else of all, one with a known trouble first."""
        silent = [replica for replica in replicas if replica.uid not in self.confirmed]
        if not silent:
            return self._late("answers of all, but only just now", "Allow more time.")
        worst = min(silent, key=lambda replica: (not replica.reachable, replica.trouble is None))
        found = worst.trouble or answers.get(worst.name) or "it is being started"
        return self._late(f"{self.progress}; {worst.name}: {found}", worst.remedy)

    def _late(self, found: str, remedy: str) -> TemporaryError:
        return TemporaryError(
            f"Serving in namespace {self.cluster.namespace}",
            found=found,
            wanted=f"answers of {self.deployment.pipeline} {self.deployment.to_version} from every replica",
            remedy=f"{remedy} Then deploy {self.deployment.to_version} again.",
        )
