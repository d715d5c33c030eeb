"""Try the image for the CPU and docker-compose.yml in a real engine; print what was seen.

    python -m scripts.check_images [--local-images] [--start-engine] [--keep]

Walks through docs/deploying.md. Ten to thirty minutes, most of them for building the images;
opt-in. No GPU is needed, and none is tried. Project and volumes are the check's own and are
removed; the images stay, unless it was this check that started the engine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

from scripts.compose_walk import ROOT, Walk
from scripts.local_engine import make_local_images, running_engine

COMPILERS = "cc gcc g++ clang make cmake ld"
PASSWORD = "0123456789abcdef"

EXPERIMENT: dict[str, Any] = {
    "name": "check",
    "sender": {"model": "random-sender", "layer": 2},
    "receiver": {"model": "random-receiver", "layer": 3},
    "dataset": {"generate": {"rows": 6, "seed": 3}},
    "translators": {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 20, "seed": 9}}}},
    "conditions": "published-strict",
    "seeds": [42, 123],
    "decoding": {"max_new_tokens": 6, "relay_max_new_tokens": 6},
}
LONG = EXPERIMENT | {
    "name": "long",
    "dataset": {"generate": {"rows": 400, "seed": 4}},
    # Small groups: the first rows are there soon, however slow the machine.
    "execution": {"max_lanes": 16},
    "decoding": {"max_new_tokens": 64, "relay_max_new_tokens": 64},
}


def check_files(walk: Walk) -> None:
    """The Compose file under every profile."""
    for profiles in ("gpu", "cpu", "gpu,postgres,prometheus", "cpu,postgres,prometheus"):
        walk.shell(f"{walk.compose} config --quiet", COMPOSE_PROFILES=profiles)
    walk.note("compose config", "valid for gpu and cpu, with and without postgres, prometheus")


def check_image(walk: Walk) -> None:
    """Build it, and look for what should not be in it."""
    began = time.monotonic()
    walk.guide("docker compose --profile cpu build")
    size = int(walk.shell("docker image inspect --format '{{.Size}}' statebridge:cpu"))
    base_name = walk.variables.get("BASE_IMAGE", "python:3.13.9-slim-bookworm")
    base = int(walk.shell(f"docker image inspect --format '{{{{.Size}}}}' {base_name}"))
    walk.note("image", f"{size / 1e9:.2f} GB, {base / 1e9:.2f} GB of them the base")
    walk.note("build", f"{time.monotonic() - began:.0f} s (layers made before are reused)")
    inside = "docker run --rm --network none --user 0 statebridge:cpu "
    tools = walk.shell(inside + f"sh -c 'for w in {COMPILERS}; do command -v $w; done; true'")
    assert not tools, tools
    # The base may have its own pip; the environment that serves has none.
    assert "pip" not in walk.shell(inside + "ls /opt/statebridge/bin")
    left = walk.shell(inside + "sh -c 'find /root /opt -name .cache; ls -A /tmp'")
    assert not left, left
    script = "from importlib.metadata import distributions as d; "
    script += "print(*(f'{i.name}=={i.version}' for i in d() if i.name != 'statebridge'))"
    held = {canonical(pin) for pin in walk.shell(inside + f'python3 -c "{script}"').split()}
    pinned = {canonical(pin) for pin in (ROOT / "constraints.txt").read_text("utf-8").split("\n")}
    assert held <= pinned, held - pinned
    walk.note("in the image", f"{len(held)} packages, all as pinned; no compiler, no cache, no pip")


def canonical(pin: str) -> str:
    """A pin as constraints.txt may write it, without a build's own mark (`+cpu`)."""
    return pin.partition("+")[0].strip().lower().replace("_", "-")


def check_start(walk: Walk) -> str:
    """Refusal, first key, start; return the key."""
    printed = walk.own("run --rm -T server-cpu", fails=True)
    assert "there is no key" in printed, printed
    walk.note("without a key", next(line for line in printed.splitlines() if "no key" in line)[:70])
    created = walk.guide(
        "docker compose run --rm server statebridge keys create --name ann --role admin"
    )
    token = created.split()[-1]
    assert token.startswith("sb_"), created
    walk.guide("docker compose --profile cpu up --detach")
    walk.note("healthy after", f"{walk.healthy():.0f} s")
    walk.guide("docker compose ps")
    walk.guide("docker compose logs --tail 20 server")
    walk.guide("curl -fsS http://127.0.0.1:8000/readyz")
    made = walk.guide(
        "docker compose exec -T server statebridge keys create --name ben --role submit"
    )
    assert "ben" in walk.guide("docker compose exec -T server statebridge keys list")
    with walk.client(None) as nobody, walk.client(made.strip()) as ben:
        assert nobody.get("/v1/experiments").status_code == 401
        assert ben.get("/v1/experiments").status_code == 200
    walk.note("requests", "401 without a key, 200 with one made beside the running server")
    return token


def check_confinement(walk: Walk) -> None:
    """User, root file system, capabilities, port."""
    state = walk.inspect()
    host = state["HostConfig"]
    user = walk.own("exec -T server-cpu id").strip()
    assert re.fullmatch(r"uid=10001\S* gid=10001\S* groups=10001\S*", user), user
    for path in ("/x", "/opt/statebridge/x", "/etc/x", "/models/x"):
        walk.own(f"exec -T server-cpu touch {path}", fails=True)
    walk.own("exec -T server-cpu touch /tmp/x /data/x /hub/x")
    walk.own("exec -T server-cpu rm /tmp/x /data/x /hub/x")
    status = walk.own("exec -T server-cpu cat /proc/1/status")
    assert re.search(r"CapEff:\s0+\n", status), status
    assert re.search(r"CapBnd:\s0+\n", status), status
    assert re.search(r"NoNewPrivs:\s1\n", status), status
    assert host["ReadonlyRootfs"] is True
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    bound = state["NetworkSettings"]["Ports"]["8000/tcp"]
    assert [port["HostIp"] for port in bound] == ["127.0.0.1"], bound
    walk.note("runs as", user)
    walk.note("writes to", "/data, /hub, /tmp; not to /, /etc, /opt, /models")
    walk.note("privileges", "no capability, none to be gained; published on 127.0.0.1 alone")


def check_stop(walk: Walk, token: str) -> str:
    """SIGTERM in the middle of an experiment; return its id."""
    with walk.client(token) as client:
        long: str = client.post("/v1/experiments", json=LONG).json()["id"]
        path = f"/v1/experiments/{long}"
        walk.wait("some rows", lambda: client.get(path).json()["rows_done"] > 0)
    container = walk.inspect()["Id"]
    began = time.time()
    walk.shell(f"docker stop -t 20 {container}")
    state = walk.inspect()["State"]
    took = seconds_to_stop(walk, container, began)
    assert took < 10, took
    assert state["ExitCode"] == 0, state
    walk.note("SIGTERM while rows run", f"exit code {state['ExitCode']} after {took:.1f} s")
    walk.guide("docker compose stop")
    return long


def seconds_to_stop(walk: Walk, container: str, since: float) -> float:
    """From SIGTERM to the end by the engine's own clock: what its client takes does not count."""
    words = "docker events --format '{{.Action}} {{.TimeNano}}' --filter type=container"
    printed = walk.shell(
        f"{words} --filter container={container} --since {since:.3f} --until {time.time():.3f}"
    )
    events = [line.split() for line in printed.splitlines()]
    first = {event[0]: int(event[-1]) / 1e9 for event in reversed(events)}
    return first["die"] - first["kill"]


def check_backup(walk: Walk, token: str, experiment_id: str, rows: bytes, long: str) -> None:
    """Backup, other containers on the same volumes, then empty volumes and the backup."""
    save = "docker compose run --rm -T server tar -C /data -cf - . > statebridge-data.tar"
    walk.guide(save)
    walk.own("down")
    walk.guide("docker compose up --detach")
    walk.healthy()
    with walk.client(token) as client:
        assert walk.rows(client, experiment_id) == rows
        path = f"/v1/experiments/{long}"
        before = client.get(path).json()["rows_done"]
        walk.wait("more rows", lambda: client.get(path).json()["rows_done"] > max(before, 1))
        client.post(f"/v1/experiments/{long}/cancel")
    walk.note("down, up", f"key and rows are there; the stopped one goes on after {before} rows")
    walk.own("down --volumes")
    walk.guide("docker compose run --rm -T server tar -C /data -xf - < statebridge-data.tar")
    walk.guide("docker compose up --detach")
    walk.healthy()
    with walk.client(token) as client:
        assert walk.rows(client, experiment_id) == rows
        client.post(f"/v1/experiments/{long}/cancel")
    megabytes = (walk.folder / "statebridge-data.tar").stat().st_size / 1e6
    walk.note("backup", f"{megabytes:.1f} MB; put into empty volumes it gives the same rows")


def check_prometheus(walk: Walk, token: str) -> None:
    """A key of its own, and the server's numbers in its answers."""
    walk.guide(
        "docker compose run --rm -T server statebridge keys create --name prometheus --role read "
        "> docker/metrics.key"
    )
    (walk.folder / "docker" / "metrics.key").chmod(0o644)
    walk.guide("docker compose --profile prometheus up --detach prometheus")
    walk.healthy("prometheus")
    url = f"http://127.0.0.1:{walk.prometheus_port}/api/v1/query"

    def up() -> bool:
        answer = httpx.get(url, params={"query": "statebridge_worker_up"}, trust_env=False).json()
        return [found["value"][1] for found in answer["data"]["result"]] == ["1"]

    seconds = walk.wait("statebridge_worker_up in Prometheus", up)
    with walk.client(None) as nobody, walk.client(token) as client:
        assert nobody.get("/metrics").status_code == 401
        assert client.get("/metrics").status_code == 200
    walk.note("prometheus", f"statebridge_worker_up is 1 after {seconds:.0f} s, with its own key")


def check_postgres(walk: Walk, rows: bytes) -> None:
    """The same experiment with PostgreSQL beside the server."""
    walk.own("down --volumes")
    walk.variables |= {
        "COMPOSE_PROFILES": "cpu,postgres",
        "POSTGRES_PASSWORD": PASSWORD,
        "DATABASE_URL": f"postgresql+psycopg://statebridge:{PASSWORD}@postgres/statebridge",
    }
    walk.guide("docker compose up --detach postgres")
    walk.healthy("postgres")
    created = walk.guide(
        "docker compose run --rm server statebridge keys create --name ann --role admin"
    )
    walk.guide("docker compose up --detach")
    walk.healthy()
    _, again = walk.run_experiment(created.split()[-1], EXPERIMENT)
    assert again == rows
    walk.guide(
        "docker compose exec -T postgres pg_dump --username statebridge statebridge "
        "> statebridge.sql"
    )
    dump = (walk.folder / "statebridge.sql").read_text()
    assert "COPY public.jobs" in dump
    walk.own("exec -T server-cpu test ! -e /data/statebridge.sqlite")
    began = time.monotonic()
    walk.guide("docker compose stop")
    walk.note("postgres", f"same rows, no SQLite file; stops in {time.monotonic() - began:.1f} s")


def main() -> int:
    """Run every check; return 0 if all that was asked for was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--local-images", action="store_true", help="make base images from Debian")
    parser.add_argument("--start-engine", action="store_true", help="run dockerd for this check")
    parser.add_argument("--keep", action="store_true", help="leave containers and volumes")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.start_engine:
            stack.enter_context(running_engine())
        images = make_local_images() if options.local_images else {}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="statebridge-check-")))
        prepare(folder)
        walk = Walk(folder, images)
        try:
            every_check(walk)
        finally:
            if not options.keep:
                walk.own("down --volumes --remove-orphans")
    width = max(len(what) for what, _ in walk.seen)
    print("\n" + "\n".join(f"{what:{width}}  {seen}" for what, seen in walk.seen))
    return 0


def prepare(folder: Path) -> None:
    """Write a small random pair, settings that list it, and what the guide's lines expect."""
    from scripts.random_pair import build_random_pair  # noqa: PLC0415 - loads torch

    build_random_pair(folder / "models")
    sides = {side: {"model": f"/models/random-{side}"} for side in ("sender", "receiver")}
    (folder / "settings.yml").write_text(yaml.safe_dump({"pairs": {"random": sides}}))
    (folder / "docker").mkdir()
    # As the guide says: what was saved is for its owner alone.
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "models")], check=True)


def every_check(walk: Walk) -> None:
    """All checks, in the order of the guide."""
    check_files(walk)
    check_image(walk)
    token = check_start(walk)
    check_confinement(walk)
    experiment_id, rows = walk.run_experiment(token, EXPERIMENT)
    walk.note(
        "experiment by the client", f"{len(rows.splitlines())} rows, the same as over plain HTTP"
    )
    long = check_stop(walk, token)
    check_backup(walk, token, experiment_id, rows, long)
    check_prometheus(walk, token)
    check_postgres(walk, rows)


if __name__ == "__main__":
    sys.exit(main())
