"""Promises of docker/cluster, read without a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.compose_file import ROOT, stages

FOLDER = ROOT / "docker" / "cluster"
PAGE = (ROOT / "docs" / "cluster.md").read_text("utf-8")

RAY_CLUSTER = {"headGroupSpec", "workerGroupSpecs", "rayVersion", "authOptions"}
HEAD_GROUP = {"rayStartParams", "template"}
WORKER_GROUP = HEAD_GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}
"""Fields that are in use, of the types of ray.io/v1 (KubeRay, apis/ray/v1/raycluster_types.go)."""


def _yaml(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def _services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _yaml("compose.yaml")[0]["services"]
    return found


def _pinned_ray() -> str:
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    return re.findall(r"(?m)^ray==(.+)$", pins)[0]


def test_the_file_of_ray_up_is_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ray = find_spec("ray")
    if ray is None or ray.origin is None:
        pytest.skip("Ray is not installed")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    (config,) = _yaml("ray-up.yaml")
    jsonschema.validate(config, schema)
    for wrong in ({"min_worker": 2}, {"docker": {"imag": "x"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(config | wrong, schema)


def test_the_manifest_has_the_fields_of_a_ray_cluster() -> None:
    claim, cluster = _yaml("raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert set(spec) == RAY_CLUSTER
    assert set(spec["headGroupSpec"]) == HEAD_GROUP
    assert spec["rayVersion"] == _pinned_ray()
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert set(group) in (HEAD_GROUP, WORKER_GROUP)
        # The operator puts them on a command line, and takes strings alone.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (container,) = pod["containers"]
        asked = container["resources"]["limits"]["nvidia.com/gpu"]
        assert group["rayStartParams"]["num-gpus"] == asked
        assert {"readinessProbe", "livenessProbe"} <= set(container)
    assert (
        f"kubectl wait --for=condition=Ready pod --selector=ray.io/cluster={_name(cluster)}" in PAGE
    )


def _name(declared: dict[str, Any]) -> str:
    return str(declared["metadata"]["name"])


@pytest.mark.parametrize("name", ["head", "worker", "head-cpu", "worker-cpu"])
def test_a_node_is_confined_and_starts_ray(name: str) -> None:
    service = _services()[name]
    assert service["profiles"] == [name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == "host"
    assert service["command"][:3] == ["ray", "start", "--block"]
    assert ("--head" in service["command"]) == name.startswith("head")
    assert service["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    on_gpus = not name.endswith("-cpu")
    assert ("deploy" in service) == on_gpus
    assert ("OMP_NUM_THREADS" in service["environment"]) != on_gpus
    assert [volume.rpartition("}:")[2] for volume in service["volumes"]] == [
        "/data",
        "/hub",
        "/models:ro",
    ]


def test_all_nodes_run_the_image_that_the_files_build() -> None:
    (up,), (_, cluster) = _yaml("ray-up.yaml"), _yaml("raycluster.yaml")
    pod = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    built = {service["image"] for service in _services().values()}
    assert built == {"statebridge:ray-cuda", "statebridge:ray-cpu"}
    for image in (up["docker"]["image"], pod["containers"][0]["image"]):
        assert image.removeprefix("registry.example.org/") in built


def test_models_and_hashes_of_weights_are_on_the_shared_folder() -> None:
    (env,) = [rest for name, rest in stages()[-1] if name == "ENV"]
    assert {"HF_HOME=/hub", "XDG_CACHE_HOME=/hub/cache"} <= set(env.split())
    pod = _yaml("raycluster.yaml")[1]["spec"]["headGroupSpec"]["template"]["spec"]
    (container,) = pod["containers"]
    set_there = {each["name"]: each["value"] for each in container["env"]}
    (mount,) = container["volumeMounts"]
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        assert set_there[name].startswith(f"{mount['mountPath']}/")
    assert "--volume=/srv/hub:/hub" in _yaml("ray-up.yaml")[0]["docker"]["run_options"]


def test_the_page_describes_every_variable() -> None:
    text = (FOLDER / "compose.yaml").read_text("utf-8")
    for name in set(re.findall(r"\$\{([A-Z_]+)", text)):
        elsewhere = (ROOT / "docs" / "deploying.md").read_text("utf-8")
        assert f"`{name}`" in PAGE + elsewhere, name


def test_compose_accepts_the_file() -> None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            continue
        profiles = [word for name in _services() for word in ("--profile", name)]
        file = str(FOLDER / "compose.yaml")
        done = subprocess.run(
            [*command, "-f", file, *profiles, "config"],
            env=os.environ | {"RAY_AUTH_TOKEN": "x"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert set(yaml.safe_load(done.stdout)["services"]) == set(_services())
        return
    pytest.skip("Compose is not installed")
