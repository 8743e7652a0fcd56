"""Finds out why a pod failed, from what is left of it. Pure: plain Kubernetes JSON in, a sentence out."""

from __future__ import annotations

import re
from collections.abc import Callable

from evergreen.errors import ConfigurationError, DataError, OutOfMemory, TemporaryError
from evergreen.orchestration.pod_diagnosis import Cause, Diagnosis
from evergreen.orchestration.pod_facts import Facts

RESUMES = "It goes on from its last checkpoint."
OTHER_PROFILE = "Choose another profile in the trigger form"


def diagnose(facts: Facts) -> Diagnosis:
    """The first cause that the facts prove, from the most telling facts to the least."""
    for examine in _EXAMINATIONS:
        if diagnosis := examine(facts):
            return diagnosis
    raise AssertionError("the last examination always finds something")


def _kubeconfig(facts: Facts) -> Diagnosis | None:
    if "CERTIFICATE_VERIFY_FAILED" in facts.error:
        why = "the cluster shows a certificate that the kubeconfig does not trust."
    elif found := re.search(r"(?:ConfigException|FileNotFoundError|ScannerError|ParserError): (.*)", facts.error):
        why = _sentence(found[1])
    else:
        return None
    return Diagnosis(
        cause=Cause.KUBECONFIG,
        sentence=f"The way to the cluster is not known: {why}",
        remedy="Set EVERGREEN_KUBECONFIG to a kubeconfig of the cluster that Airflow's workers can read.",
    )


def _refused(facts: Facts) -> Diagnosis | None:
    """What the API said when the pod was to be made."""
    message = _sentence(facts.answer_message or "no reason given")
    match facts.answer:
        case 403 if "exceeded quota" in message:
            sentence = f"The namespace's quota leaves no room for the pod: {message}"
            remedy = "Wait for other pods to end, raise the quota, or choose a smaller profile in the trigger form."
            return Diagnosis(cause=Cause.QUOTA, sentence=sentence, remedy=remedy)
        case 403 if " cannot " not in message and facts.name is None:
            remedy = "Correct the resource profile, or the namespace's limits and policies."
            return Diagnosis(cause=Cause.REFUSED, sentence=f"The cluster refuses the pod: {message}", remedy=remedy)
        case 403:
            remedy = "Ask the cluster's administrator to allow it to the account of EVERGREEN_KUBECONFIG."
            return Diagnosis(cause=Cause.FORBIDDEN, sentence=f"The cluster forbids it: {message}", remedy=remedy)
        case 401:
            sentence = "The cluster does not accept the credentials: they are expired or wrong."
            remedy = "Renew the token or certificate in the file that EVERGREEN_KUBECONFIG names."
            # A pod that runs is taken over by the next try; failing now would leave it alone.
            cause = Cause.UNREACHABLE if facts.name else Cause.UNAUTHORIZED
            return Diagnosis(cause=cause, sentence=sentence, remedy=remedy)
        case 400 | 404 | 422 if facts.name is None:
            remedy = "Correct EVERGREEN_NAMESPACE, the pipeline's spec or its resource profile."
            return Diagnosis(cause=Cause.REFUSED, sentence=f"The cluster refuses the pod: {message}", remedy=remedy)
    return None


def _deadline(facts: Facts) -> Diagnosis | None:
    late = facts.status.get("reason") == "DeadlineExceeded" or facts.event("DeadlineExceeded")
    if not late and not re.search(r"AirflowTaskTimeout|execution_timeout deadline", facts.error):
        return None
    seconds = (facts.pod.get("spec") or {}).get("activeDeadlineSeconds")
    return Diagnosis(
        cause=Cause.DEADLINE,
        sentence=f"{_pod(facts)} ran longer than its deadline{f' of {seconds} s' if seconds else ''} and was stopped.",
        remedy="Raise deadline_seconds of its profile, or train on less; clear the task to go on from its checkpoint.",
    )


def _preempted(facts: Facts) -> Diagnosis | None:
    reason, event = facts.condition("DisruptionTarget").get("reason"), facts.event("Preempted")
    if (
        not event
        and reason != "PreemptionByScheduler"
        and facts.status.get("reason") not in ("Preempting", "Preempted")
    ):
        return None
    why = "a pod of higher priority needed its place"
    return Diagnosis(cause=Cause.PREEMPTED, sentence=f"{_pod(facts)} was preempted: {why}.", remedy=RESUMES)


def _evicted(facts: Facts) -> Diagnosis | None:
    reason, event = facts.condition("DisruptionTarget").get("reason"), facts.event("Evicted")
    drained = reason == "EvictionByEvictionAPI"
    if not (event or drained or facts.status.get("reason") == "Evicted"):
        return None
    why = facts.status.get("message") or event.get("message") or facts.condition("DisruptionTarget").get("message")
    why = _sentence("its node is being drained" if drained else why or "no reason given")
    if re.search(r"ephemeral local storage usage exceeds|Usage of EmptyDir volume", why):
        return Diagnosis(
            cause=Cause.STORAGE,
            sentence=f"{_pod(facts)} filled the disk space it may use: {why}",
            remedy="Give its profile more ephemeral-storage or scratch space, or choose another one.",
        )
    return Diagnosis(cause=Cause.EVICTED, sentence=f"{_pod(facts)} was evicted{_from(facts)}: {why}", remedy=RESUMES)


def _out_of_memory(facts: Facts) -> Diagnosis | None:
    ended = facts.terminated
    said = _last_line(facts).startswith("exit 137 (")
    if ended.get("reason") != "OOMKilled" and not said:
        return None
    limit = ((facts.container.get("resources") or {}).get("limits") or {}).get("memory")
    killed = f"{_pod(facts)} needed more memory than its limit{f' of {limit}' if limit else ''} and was killed."
    sentence = f"{_pod(facts)} ran out of memory: {_sentence(_last_line(facts))}" if said else killed
    return Diagnosis(cause=Cause.OUT_OF_MEMORY, sentence=sentence, remedy=f"{OTHER_PROFILE} if it happens again.")


def _node_lost(facts: Facts) -> Diagnosis | None:
    taint = facts.condition("DisruptionTarget").get("reason") in ("DeletionByTaintManager", "DeletionByPodGC")
    event = facts.event("NodeNotReady", "TaintManagerEviction", "NodeShutdown")
    stopped = facts.status.get("reason") in ("NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity")
    silent = "containerLogs" in facts.error and (facts.answer or 0) >= 500
    cancelled = str(event.get("message", "")).startswith("Cancelling deletion")
    if not (taint or stopped or silent or (event and not cancelled)) or _exit_code(facts) == 0:
        return None
    node = f"node {facts.node}" if facts.node else "its node"
    return Diagnosis(
        cause=Cause.NODE_LOST,
        sentence=f"{_pod(facts)} was lost with {node}, which does not answer or was shut down.",
        remedy=RESUMES,
    )


def _ended(facts: Facts) -> Diagnosis | None:
    """The step's own word: its exit code and last line."""
    code = _exit_code(facts)
    if not code or (facts.gone and code not in _MEANINGS):
        return None
    line = _last_line(facts)
    if facts.gone and code == TemporaryError.exit_code:
        return None  # it was asked to stop, since somebody deleted its pod
    said = re.sub(r"^exit \d+ \([^)]*\): ", "", line)
    cause, what, remedy = _MEANINGS.get(code, (Cause.EXIT, f"ended with exit code {code}", "See its last log lines."))
    told = f": {_sentence(said)}" if said else "."
    return Diagnosis(cause=cause, sentence=f"{_pod(facts)} {what}{told}", remedy=remedy)


_MEANINGS = {
    ConfigurationError.exit_code: (Cause.CONFIGURATION, "was configured wrongly", "A retry cannot help."),
    DataError.exit_code: (Cause.DATA, "met data it cannot use", "A retry cannot help."),
    TemporaryError.exit_code: (Cause.TEMPORARY, "met a trouble that may pass", "It is tried again."),
    OutOfMemory.exit_code: (
        Cause.EXIT,
        "was killed (SIGKILL), not by its memory limit",
        "The node may be short of memory: choose a profile that requests more.",
    ),
}


def _image(facts: Facts) -> Diagnosis | None:
    waits = facts.waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
    pulls = [e for e in facts.events if "pull" in str(e.get("message")) and e.get("reason") == "Failed"]
    if facts.event("Started") or not (waits or pulls or "Image cannot be pulled" in facts.error):
        return None
    why = pulls[-1].get("message") if pulls else facts.waiting.get("message")
    image = facts.container.get("image", "its image")
    passing = re.search(_REGISTRY_AWAY, str(why).replace(image, ""))
    sentence = f"{_pod(facts)} could not start: the image {image} cannot be pulled. {_sentence(why or '')}".rstrip()
    if passing:
        remedy = "See that its registry answers the nodes, or correct EVERGREEN_TRAINER_IMAGE."
        return Diagnosis(cause=Cause.REGISTRY, sentence=sentence, remedy=remedy)
    remedy = "Correct EVERGREEN_TRAINER_IMAGE, push the image, or give the service account a pull secret."
    return Diagnosis(cause=Cause.IMAGE, sentence=sentence, remedy=remedy)


_REGISTRY_AWAY = (
    r"(?i)timeout|timed out|deadline exceeded|connection refused|connection reset|\bEOF\b|server misbehaving"
    r"|temporary failure|too many requests|toomanyrequests|\b429\b|\b50[0234]\b"
)
"""What pulls say while a registry or the way to it is away; a name that nobody knows is no such thing."""


def _container(facts: Facts) -> Diagnosis | None:
    known = (
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "ContainerCannotRun",
    )
    state = next((s for s in (facts.waiting, facts.terminated) if s.get("reason") in known), None)
    event = next((e for e in facts.events if str(e.get("message", "")).startswith("Error: ")), {})
    if state is None and (not event or facts.event("Started")):
        return None
    why = (state or {}).get("message") or event.get("message") or (state or {}).get("reason")
    return Diagnosis(
        cause=Cause.CONTAINER,
        sentence=f"{_pod(facts)} could not start its container: {_sentence(why)}",
        remedy="Correct the image, its secrets or its volumes.",
    )


def _never_scheduled(facts: Facts) -> Diagnosis | None:
    refused = facts.event("FailedScheduling").get("message") or facts.condition("PodScheduled").get("message")
    if facts.scheduled or not refused:
        return None
    waited = re.search(r"More than (\d+)s", facts.error)
    tail = f"; waited {waited[1]} s." if waited else "."
    lacking = [name for name in re.findall(r"Insufficient ([\w./-]+\w)", refused) if not _offered(facts, name)]
    never = f"{_pod(facts)} was never scheduled"
    if lacking and facts.nodes is not None:
        asked, looked = _asked(facts, lacking[0]), _count(len(facts.nodes), "node")
        return Diagnosis(
            cause=Cause.NOT_OFFERED,
            sentence=f"{never}: no node offers {lacking[0]} (asked for {asked}; {looked} looked at).",
            remedy=f"{OTHER_PROFILE}, or add a node that has it{tail}",
        )
    return Diagnosis(
        cause=Cause.NO_ROOM,
        sentence=f"{never}: {_sentence(refused)}",
        remedy=f"{OTHER_PROFILE}, wait for other pods to end, or add a node{tail}",
    )


def _deleted(facts: Facts) -> Diagnosis | None:
    if not facts.gone:
        return None
    return Diagnosis(
        cause=Cause.DELETED,
        sentence=f"{_pod(facts)} was deleted{_from(facts)} by somebody else, by hand or to drain its node.",
        remedy=RESUMES,
    )


def _unreachable(facts: Facts) -> Diagnosis | None:
    if (facts.answer or 0) < 500 and not re.search(r"MaxRetryError|ConnectTimeout|ClientConnect\w*Error", facts.error):
        return None
    where = re.search(r"host='([^']+)', port=(\d+)", facts.error)
    server = f" at {where[1]}:{where[2]}" if where else ""
    return Diagnosis(
        cause=Cause.UNREACHABLE,
        sentence=f"The Kubernetes API{server} does not answer.",
        remedy="See that the cluster runs and that EVERGREEN_KUBECONFIG names its address.",
    )


def _not_started(facts: Facts) -> Diagnosis | None:
    late = re.search(r"took too long to start. More than (\d+)s", facts.error)
    if not late and "failed before containers started" not in facts.error:
        return None
    warned = [event for event in facts.events if event.get("type") == "Warning"]
    why = _sentence(warned[-1].get("message") or "") if warned else "its events say nothing."
    waited = f" within {late[1]} s" if late else ""
    return Diagnosis(
        cause=Cause.NOT_STARTED,
        sentence=f"{_pod(facts)} was scheduled{_on(facts)} but did not start{waited}: {why}",
        remedy="See the node's disk, network and volumes.",
    )


def _unknown(facts: Facts) -> Diagnosis:
    lines = [line for line in facts.error.splitlines() if line.strip()]
    last = _sentence(lines[0]) if lines else "nothing was said."
    return Diagnosis(
        cause=Cause.UNKNOWN,
        sentence=f"{_pod(facts)} failed for a reason that neither its events nor its status tell: {last}",
        remedy="See the log above.",
    )


_EXAMINATIONS: tuple[Callable[[Facts], Diagnosis | None], ...] = (
    _kubeconfig, _refused, _preempted, _evicted, _deadline, _out_of_memory, _node_lost, _image, _container, _ended,
    _never_scheduled, _deleted, _not_started, _unreachable, _unknown,
)  # fmt: skip


def _pod(facts: Facts) -> str:
    return f"Pod {facts.name}" if facts.name else "The pod"


def _from(facts: Facts) -> str:
    return f" from node {facts.node}" if facts.node else ""


def _on(facts: Facts) -> str:
    return f" on node {facts.node}" if facts.node else ""


def _exit_code(facts: Facts) -> int | None:
    code: int | None = facts.terminated.get("exitCode")
    return code


def _last_line(facts: Facts) -> str:
    lines = [line for line in str(facts.terminated.get("message") or "").splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"exit \d+ \(", line)]
    return (told or lines or [""])[-1].strip()


def _offered(facts: Facts, resource: str) -> bool:
    offers = [((node.get("status") or {}).get("allocatable") or {}).get(resource, "0") for node in facts.nodes or ()]
    return any(str(offer) != "0" for offer in offers)


def _asked(facts: Facts, resource: str) -> str:
    resources = facts.container.get("resources") or {}
    asked = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource)
    return str(asked or "some")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sentence(text: object) -> str:
    """`text` on one line, not too long, with a full stop."""
    line = " ".join(str(text).split())
    line = line if len(line) <= 400 else line[:399] + "…"
    return line if not line or line[-1] in ".!?…" else f"{line}."
