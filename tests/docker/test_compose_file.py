"""Promises of docker-compose.yml, read without an engine; scripts/check_images tries it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from statebridge_server.settings import Settings, load_settings
from tests.docker.compose_file import (
    COMPOSE,
    ENVIRONMENT,
    GUIDE,
    ROOT,
    compose,
    services,
    variables,
    with_defaults,
)

SERVERS = ("server", "server-cpu")
OF_COMPOSE = {"COMPOSE_PROFILES"}


@pytest.mark.parametrize("name", services())
def test_every_service_is_confined(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["logging"]["options"]["max-size"]
    # The servers' user is set in the Dockerfile.
    assert name in SERVERS or service["user"] in ("postgres", "nobody")


@pytest.mark.parametrize("name", services())
def test_every_service_has_one_profile_and_a_pinned_image(name: str) -> None:
    service = services()[name]
    assert len(service["profiles"]) == 1
    image = with_defaults(service["image"])
    base = with_defaults(service["build"]["args"]["BASE_IMAGE"]) if name in SERVERS else image
    assert re.search(r":v?\d+\.\d+[\w.-]*$", base), base


def test_nothing_listens_beyond_loopback_unless_told_to() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert len(published) == 3
    for port in published:
        assert with_defaults(port).startswith("127.0.0.1:"), port
    assert "ports" not in services()["postgres"]


def test_the_gpu_is_started_where_no_profile_is_given() -> None:
    assert "COMPOSE_PROFILES=gpu\n" in ENVIRONMENT.read_text("utf-8")
    profiles = {name: service["profiles"][0] for name, service in services().items()}
    assert profiles == {
        "server": "gpu",
        "server-cpu": "cpu",
        "postgres": "postgres",
        "prometheus": "prometheus",
    }


def test_gpu_and_cpu_differ_in_torch_and_device_alone() -> None:
    gpu, cpu = (services()[name] for name in SERVERS)
    devices = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    (device,) = devices
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert len(device["device_ids"]) == 1
    assert gpu["environment"].pop("STATEBRIDGE_DEVICE") == "cuda"
    assert cpu["environment"].pop("STATEBRIDGE_DEVICE") == "cpu"
    assert with_defaults(gpu["build"]["args"].pop("TORCH_INDEX")) == ""
    assert with_defaults(cpu["build"]["args"].pop("TORCH_INDEX")).startswith("https://")
    assert (gpu.pop("image"), cpu.pop("image")) == ("statebridge:cuda", "statebridge:cpu")
    del gpu["profiles"], cpu["profiles"]
    assert gpu == cpu


def test_the_server_may_take_the_time_it_needs_to_stop() -> None:
    from statebridge_server.supervisor import STOP_SECONDS

    grace = services()["server"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > STOP_SECONDS + 5
    assert "entrypoint" not in services()["server"]
    assert "command" not in services()["server"]


def test_every_setting_that_is_passed_exists() -> None:
    for name in SERVERS:
        given = {k for k in services()[name]["environment"] if k.startswith("STATEBRIDGE_")}
        known = {f"STATEBRIDGE_{field.upper()}" for field in Settings.model_fields}
        assert given - known == {"STATEBRIDGE_CONFIG"}


def test_the_servers_settings_are_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in services()["server"]["environment"].items():
        monkeypatch.setenv(name, with_defaults(value))
    # The model folders of the comment count as well: what is commented out must work.
    file = ROOT / "docker" / "settings.yml"
    settings = load_settings(file)
    assert settings.url.startswith("sqlite:///")
    assert list(settings.pairs) == ["pythia"]
    lines = re.findall(r"(?m)^#( {3}.*)$", file.read_text("utf-8"))
    more = tmp_path / "settings.yml"
    more.write_text("pairs:\n" + "\n".join(lines))
    own = load_settings(more).pairs["own"]
    assert own.sender.model == "/models/tuned-160m"


def test_volumes_and_secrets_are_declared_and_exist() -> None:
    declared = compose()
    for name, service in services().items():
        for volume in service["volumes"]:
            source, target, *mode = with_defaults(volume).split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (ROOT / source).exists(), volume
                assert mode == ["ro"], volume
            else:
                assert source in declared["volumes"], (name, volume)
        assert set(service.get("secrets", [])) <= set(declared["secrets"])


def test_prometheus_asks_the_servers_at_their_common_name() -> None:
    (job,) = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text("utf-8"))[
        "scrape_configs"
    ]
    assert job["static_configs"] == [{"targets": ["statebridge:8000"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    for name in SERVERS:
        assert services()[name]["networks"]["default"]["aliases"] == ["statebridge"]


def test_no_secret_has_a_default() -> None:
    assert {variables()[name] for name in ("POSTGRES_PASSWORD", "DATABASE_URL", "HF_TOKEN")} == {""}
    for line in ENVIRONMENT.read_text("utf-8").splitlines():
        assert not line or line.startswith("#") or line == "COMPOSE_PROFILES=gpu", line
    ignored = (ROOT / "docker" / ".gitignore").read_text("utf-8").splitlines()
    assert Path(variables()["METRICS_KEY_FILE"]).name in ignored


def test_the_guide_lists_every_variable_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| (`[A-Z].*?) \| .*? \| (.*?) \|$", GUIDE.read_text("utf-8"))
    listed = {
        name: default
        for names, defaults in rows
        for name, default in zip(names.split(", "), defaults.split(", "), strict=False)
    }
    assert {name.strip("`") for names, _ in rows for name in names.split(", ")} == (
        set(variables()) | OF_COMPOSE
    )
    for name, default in listed.items():
        if default.startswith("`"):
            known = variables() | {"COMPOSE_PROFILES": "gpu"}
            assert known[name.strip("`")] == default.strip("`"), name
    mentioned = set(re.findall(r"(?m)^#?([A-Z_]+)=", ENVIRONMENT.read_text("utf-8")))
    assert mentioned <= set(variables()) | OF_COMPOSE


def test_what_the_file_says_of_itself_needs_no_newer_compose() -> None:
    # Keys that docker-compose 1.29 refuses, or that only Compose 2 knows.
    assert set(compose()) == {"x-hardened", "x-server", "services", "secrets", "volumes"}
    text = COMPOSE.read_text("utf-8")
    for newer in ("start_interval", "required:", "${POSTGRES_PASSWORD:?", ":+", "develop:"):
        assert newer not in text


def test_the_lines_of_the_guide_are_those_that_the_check_runs() -> None:
    script = (ROOT / "scripts" / "check_images.py").read_text("utf-8")
    written = re.sub(r'"\s*\n\s*"', "", script)
    lines = re.findall(r"(?m)^\$ (.*)$", GUIDE.read_text("utf-8"))
    assert len(lines) > 15
    # `build` is run with its profile; what git pulls is not ours to test.
    elsewhere = {"git pull", "docker compose build"}
    missing = [line for line in lines if line not in elsewhere and f'"{line}"' not in written]
    assert not missing
