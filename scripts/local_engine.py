"""An engine, and images to build on, for a machine that has neither and can pull none.

Debian's packages do it: `docker.io`, `docker-compose` and `debootstrap`. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BASE = "statebridge-check/base"
POSTGRES = "statebridge-check/postgres"
PROMETHEUS = "statebridge-check/prometheus"

PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"

# What the official image does at its first start, in a few lines, with Debian's server.
POSTGRES_DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-15 \\
    && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data \\
    && install -d -o postgres -g postgres -m 3777 /var/run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
RUN printf '%s\\n' '#!/bin/sh' 'set -e' \\
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \\
    '  printf %s "$POSTGRES_PASSWORD" > /tmp/password' \\
    '  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust \\
        $POSTGRES_INITDB_ARGS' \\
    '  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"' \\
    '  pg_ctl --wait --options="-c listen_addresses=" start' \\
    '  PGPASSWORD="$POSTGRES_PASSWORD" createdb --username="$POSTGRES_USER" "$POSTGRES_DB"' \\
    '  pg_ctl --wait stop' \\
    'fi' 'exec postgres -c "listen_addresses=*"' > /usr/local/bin/start \\
    && chmod 0755 /usr/local/bin/start
ENTRYPOINT ["/usr/local/bin/start"]
"""

PROMETHEUS_DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus wget \\
    && install -d -o nobody -g nogroup /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""


@contextmanager
def running_engine() -> Iterator[None]:
    """Run dockerd on a socket of its own, named in DOCKER_HOST; all it held is gone at the end.

    Raises:
        RuntimeError: It does not answer within a minute; the message ends with its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="statebridge-engine-"))
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    # No rule of the host's firewall is touched: published ports go through docker-proxy.
    words = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    words += [f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}"]
    words += [f"--pidfile={folder / 'dockerd.pid'}", f"--host=unix://{socket}"]
    os.environ["DOCKER_HOST"] = f"unix://{socket}"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 60
        while subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dockerd does not answer\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(60)
        # The one mount that dockerd leaves behind would keep the folder from going.
        namespace = folder / "exec" / "netns" / "default"
        subprocess.run(["umount", str(namespace)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def make_local_images() -> dict[str, str]:
    """Make base, PostgreSQL and Prometheus images from Debian; return Compose's variables.

    pip's configuration and certificates of this machine go into the base, and the wheels of
    its `find-links` folder.
    """
    if not _have(BASE):
        with tempfile.TemporaryDirectory(prefix="statebridge-base-") as name:
            root = Path(name) / "root"
            bootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
            subprocess.run([*bootstrap, str(root)], check=True, stdout=subprocess.DEVNULL)
            _take_pip_along(root)
            tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
            subprocess.run(["docker", "import", "-", BASE], stdin=tar.stdout, check=True)
            if tar.wait():
                raise RuntimeError("the base image's files cannot be read")
    for image, dockerfile in ((POSTGRES, POSTGRES_DOCKERFILE), (PROMETHEUS, PROMETHEUS_DOCKERFILE)):
        if not _have(image):
            build = ["docker", "build", "--quiet", "--network=host", "--tag", image, "-"]
            subprocess.run(build, input=dockerfile.encode(), check=True)
    return {
        "BASE_IMAGE": BASE,
        "POSTGRES_IMAGE": POSTGRES,
        "PROMETHEUS_IMAGE": PROMETHEUS,
        "CPU_TORCH_INDEX": "",
    }


def _take_pip_along(root: Path) -> None:
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(certificates, root / certificates.relative_to("/"))
    lines = ["[global]", f"cert = {certificates}"]
    links = subprocess.run(
        ["python3", "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if Path(links).is_dir() and links.startswith("/"):
        shutil.copytree(links, root / links.lstrip("/"))
        lines.append(f"find-links = {links}")
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def _have(image: str) -> bool:
    words = ["docker", "image", "inspect", image]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
