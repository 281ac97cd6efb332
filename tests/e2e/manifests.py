"""The manifests that these tests place."""

from collections.abc import Mapping
from typing import Any, Final

Json = Any
SMALL: Final = {"cpu": "500m", "memory": "256Mi"}


def deployment(name: str, replicas: int, requests: Mapping[str, str] = SMALL) -> Json:
    """A Deployment of one container."""
    return _controller("apps/v1", "Deployment", name, requests) | {"spec": _kept(name, replicas, requests)}


def stateful_set(name: str, replicas: int, requests: Mapping[str, str] = SMALL) -> Json:
    """A StatefulSet of one container."""
    spec = {**_kept(name, replicas, requests), "serviceName": name}
    return _controller("apps/v1", "StatefulSet", name, requests) | {"spec": spec}


def job(name: str, completions: int, parallelism: int, runs_for: str = "2s") -> Json:
    """A Job whose pods run for a while."""
    template = _template(name, SMALL)
    template["metadata"]["annotations"] = {"testbed/runs-for": runs_for}
    template["spec"]["restartPolicy"] = "Never"
    spec = {"completions": completions, "parallelism": parallelism, "template": template}
    return _controller("batch/v1", "Job", name, SMALL) | {"spec": spec}


def resized(name: str, replicas: int, requests: Mapping[str, str]) -> Json:
    """A change of a Deployment's pods, for PATCH."""
    return {"manifest": deployment(name, replicas, requests)}


def _controller(version: str, kind: str, name: str, requests: Mapping[str, str]) -> dict[str, Json]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _kept(name: str, replicas: int, requests: Mapping[str, str]) -> dict[str, Json]:
    return {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": _template(name, requests)}


def _template(name: str, requests: Mapping[str, str]) -> dict[str, Json]:
    container = {"name": "main", "image": "image", "resources": {"requests": dict(requests)}}
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
