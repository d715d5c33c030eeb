"""Promises of docker/Dockerfile, read without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib

import yaml

from statebridge_server.settings import Settings
from tests.docker.compose_file import DOCKERFILE, ROOT, instructions, services, stages


def test_the_classic_builder_understands_it() -> None:
    text = DOCKERFILE.read_text("utf-8")
    assert "# syntax=" not in text
    assert "<<" not in text
    for name, rest in instructions():
        assert name in {
            *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE"),
            *("STOPSIGNAL", "CMD"),
        }
        if name == "RUN":
            assert not rest.startswith("--"), rest
        if name == "COPY":
            assert re.findall(r"--\w+", rest) in ([], ["--from"]), rest


def test_the_base_is_a_pinned_argument_of_every_stage() -> None:
    (default,) = [rest for name, rest in instructions()[:1] if name == "ARG"]
    key, image = default.split("=")
    assert key == "BASE_IMAGE"
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-\w+", image)
    assert [rest.split()[0] for name, rest in instructions() if name == "FROM"] == [
        "${BASE_IMAGE}"
    ] * 3
    for name in ("server", "server-cpu"):
        assert services()[name]["build"]["args"]["BASE_IMAGE"] == f"${{BASE_IMAGE:-{image}}}"


def test_packages_are_pinned_wheels_and_leave_no_cache() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "-m pip" in rest]
    assert len(installs) == 3
    for line in installs:
        assert "--no-cache-dir" in line
    (dependencies,) = [line for line in installs if "--requirement" in line]
    assert "--constraint constraints.txt" in dependencies
    assert "--only-binary :all:" in dependencies


def test_the_last_stage_installs_nothing_and_is_not_root() -> None:
    last = stages()[-1]
    names = [name for name, _ in last]
    runs = " ".join(rest for name, rest in last if name == "RUN")
    for word in ("pip", "apt", "curl", "wget", "gcc"):
        assert not re.search(rf"\b{word}\b", runs)
    assert [rest for name, rest in last if name == "COPY"] == [
        "--from=environment /opt/statebridge /opt/statebridge"
    ]
    assert dict(last)["USER"] == "10001:10001"
    assert names.index("USER") > names.index("RUN")
    # A shell between the engine and the server would keep SIGTERM from it.
    assert json.loads(dict(last)["CMD"]) == ["statebridge", "serve"]
    assert dict(last)["STOPSIGNAL"] == "SIGTERM"


def test_its_environment_names_settings_and_writable_places() -> None:
    variables = dict(re.findall(r"(\w+)=(\S+)", dict(stages()[-1])["ENV"]))
    known = {f"STATEBRIDGE_{field.upper()}" for field in Settings.model_fields}
    assert {name for name in variables if name.startswith("STATEBRIDGE_")} <= known
    mounted = [volume.split(":")[1] for volume in services()["server"]["volumes"][:2]]
    assert mounted == [variables["STATEBRIDGE_DATA"], variables["HF_HOME"]]
    assert variables["HOME"] == "/tmp"
    assert variables["MPLCONFIGDIR"].startswith("/tmp/")
    assert services()["server"]["tmpfs"][0].startswith("/tmp:size=")


def test_everything_that_is_copied_passes_the_ignore_file() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[0] == "*"
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_dependencies_are_those_of_the_project_and_its_extras() -> None:
    lines = subprocess.run(
        [sys.executable, str(ROOT / "docker" / "dependencies.py"), "server"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    expected = {*project["dependencies"], *extras["engine"], *extras["server"]}
    assert set(lines) == {line for line in expected if not line.startswith("statebridge[")}
    assert len(lines) == len(set(lines))


def test_the_extras_that_it_asks_for_exist_and_are_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    (own,) = [rest for _, rest in instructions() if rest.startswith("EXTRAS=")]
    nodes = yaml.safe_load((ROOT / "docker" / "cluster" / "compose.yaml").read_text("utf-8"))
    of_nodes = nodes["services"]["head"]["build"]["args"]["EXTRAS"]
    asked = [*re.findall(r"[a-z]+", own), *of_nodes.split()]
    assert set(asked) <= set(extras)
    pinned = {
        re.split("==", pin)[0].lower().replace("_", "-")
        for pin in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in pin
    }
    wanted = [re.split(r"[<>=\[]", name)[0].lower() for extra in asked for name in extras[extra]]
    assert {name.replace("_", "-") for name in wanted} - {"statebridge"} <= pinned
