"""What a container sees: its environment, volumes, command line and working directory."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evergreen.localcluster.pod_defaults import TERMINATION_LOG
from evergreen.localcluster.pod_directory import PodDirectory
from evergreen.localcluster.pod_status import LOCAL_ADDRESS
from evergreen.localcluster.store import Store
from evergreen.localcluster.termination_message import FILE_NAME
from evergreen.localcluster.wire import Json

POD_UID_VARIABLE = "EVERGREEN_POD_UID"
"""In every container's environment, so that its processes can be told from all others."""
TERMINATION_LOG_VARIABLE = "EVERGREEN_TERMINATION_LOG"
"""Where the file of terminationMessagePath really is."""
INHERITED = ("HOME", "LANG", "TZ", "LD_LIBRARY_PATH")
"""What containers get from the server's own environment: the last is what an interpreter may need to start."""
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


class ConfigMissing(Exception):
    """A Secret, ConfigMap or key the container asks for is not there; the pod waits for it."""


class VolumeMissing(Exception):
    """What a volume is to be made from is not there; the pod waits for it."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is looked up while a container's environment is made."""

    store: Store
    inherited: Mapping[str, str]
    """The server's environment; only INHERITED and PATH are taken from it."""


def container_environment(
    pod: Json, container: Json, directory: PodDirectory, surroundings: Surroundings
) -> dict[str, str]:
    """All variables of a container; ConfigMissing when one refers to something absent."""
    own = surroundings.inherited
    environment = {name: own[name] for name in INHERITED if name in own}
    # The interpreter's own folder comes first, as an image's installed commands would.
    environment["PATH"] = f"{Path(sys.executable).parent}:{own.get('PATH', '/usr/bin:/bin')}"
    environment["TMPDIR"] = str(directory.scratch("tmp"))
    environment["HOSTNAME"] = pod["metadata"]["name"]
    places = _places(pod, container, directory)
    environment |= {name: real for name, _, real in places}
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        environment |= _whole_object(namespace, source, surroundings.store)
    for variable in container.get("env") or []:
        value = _value(pod, variable, surroundings.store)
        if value is not None:
            environment[variable["name"]] = _real_path(expand(value, environment), places)
    return {**environment, POD_UID_VARIABLE: pod["metadata"]["uid"]}


def expand(text: str, environment: Mapping[str, str]) -> str:
    """The text with $(NAME) replaced where NAME is known; $$ is a plain $."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def command_line(container: Json, environment: Mapping[str, str]) -> list[str]:
    """The words to execute; `python` and `python3` in first place are this very interpreter."""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    words = [expand(word, environment) for word in words]
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


def working_directory(container: Json, directory: PodDirectory) -> Path:
    """The container's workingDir where this machine has it, else a scratch directory of the pod."""
    asked = container.get("workingDir")
    return Path(asked) if asked and Path(asked).is_dir() else directory.scratch("work")


def _whole_object(namespace: str, source: Json, store: Store) -> dict[str, str]:
    for field, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
        if reference := source.get(field):
            data = object_data(store, plural, namespace, reference)
            return {f"{source.get('prefix') or ''}{key}": value.decode() for key, value in data.items()}
    return {}


def _value(pod: Json, variable: Json, store: Store) -> str | None:
    origin = variable.get("valueFrom") or {}
    namespace = pod["metadata"]["namespace"]
    for field, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if reference := origin.get(field):
            return _key_of_object(store, plural, namespace, reference)
    if reference := origin.get("fieldRef"):
        return _pod_field(pod, reference["fieldPath"])
    return str(variable.get("value") or "")


def _key_of_object(store: Store, plural: str, namespace: str, reference: Json) -> str | None:
    data = object_data(store, plural, namespace, reference)
    if reference["key"] in data:
        return data[reference["key"]].decode()
    if reference.get("optional"):
        return None
    kind = {"secrets": "Secret", "configmaps": "ConfigMap"}[plural]
    raise ConfigMissing(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")


def object_data(store: Store, plural: str, namespace: str, reference: Json) -> dict[str, bytes]:
    """The bytes under each key of a Secret or ConfigMap; ConfigMissing when it is absent and not optional."""
    name = reference.get("name") or reference.get("secretName")
    item = store.find(plural, namespace, str(name))
    if item is None:
        if reference.get("optional"):
            return {}
        raise ConfigMissing(f'{plural[:-1]} "{name}" not found')
    if plural == "secrets":
        return {key: base64.b64decode(value) for key, value in (item.get("data") or {}).items()}
    return {key: value.encode() for key, value in (item.get("data") or {}).items()}


def _pod_field(pod: Json, path: str) -> str:
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    fixed = {
        "status.podIP": LOCAL_ADDRESS,
        "status.hostIP": LOCAL_ADDRESS,
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        **{f"metadata.{field}": pod["metadata"][field] for field in ("name", "namespace", "uid")},
    }
    if path not in fixed:
        raise ConfigMissing(f"field path {path!r} is not known to the local cluster")
    return str(fixed[path])


def _places(pod: Json, container: Json, directory: PodDirectory) -> list[tuple[str, str, str]]:
    """Variable, path in the container and real path of what is mounted into it, deepest first."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    log = str(directory.container(container["name"]) / FILE_NAME)
    places = [(TERMINATION_LOG_VARIABLE, container.get("terminationMessagePath") or TERMINATION_LOG, log)]
    for mount in container.get("volumeMounts") or []:
        if (volume := volumes.get(mount["name"])) is not None:
            real = Path(_volume_path(volume, directory), mount.get("subPath") or "")
            variable = "EVERGREEN_MOUNT_" + mount["name"].upper().replace("-", "_")
            places.append((variable, mount["mountPath"].rstrip("/"), str(real)))
    return sorted(places, key=lambda place: -len(place[1]))


def _real_path(value: str, places: Sequence[tuple[str, str, str]]) -> str:
    """The value, with the path of a mounted volume in front of it made the real one: nothing can be mounted."""
    for _, mounted, real in places:
        if value == mounted or value.startswith(f"{mounted}/"):
            return real + value[len(mounted) :]
    return value


def _volume_path(volume: Json, directory: PodDirectory) -> str:
    if host_path := volume.get("hostPath"):
        return str(host_path["path"])
    return str(directory.volume(volume["name"]))


def make_volumes(pod: Json, directory: PodDirectory, store: Store) -> None:
    """Make the volumes that are mounted as real directories; VolumeMissing when a Secret or ConfigMap is absent."""
    containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts") or []}
    for volume in pod["spec"].get("volumes") or []:
        if "hostPath" in volume or volume["name"] not in mounted:
            continue
        path = directory.volume(volume["name"])
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for field, plural in (("secret", "secrets"), ("configMap", "configmaps")):
            if reference := volume.get(field):
                try:
                    data = object_data(store, plural, pod["metadata"]["namespace"], reference)
                except ConfigMissing as missing:
                    text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {missing}'
                    raise VolumeMissing(text) from missing
                _write_files(path, data)


def _write_files(path: Path, data: dict[str, bytes]) -> None:
    for key, value in data.items():
        target = path / key
        target.touch(mode=0o600)
        target.write_bytes(value)
