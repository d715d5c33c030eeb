"""Real NDIF servers on this machine: that of the kit, and a second one with keys and a sandbox."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy import create_engine, text

from tests.server.postgres import running_postgres
from tests.shared_data import SHARED

KIT = SHARED.parent / "ndif"
URL, SECOND, HUB = (f"http://127.0.0.1:{port}" for port in (8101, 8201, 8102))

TRUSTED, STRANGER, UNKNOWN = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
"""Keys: a job runs in the model's process; in a process of its own; not at all."""

_MOVED = {
    "8101": "8201",
    "6479": "6480",
    "9100": "9101",
    "127.0.0.2": "127.0.0.3",
    "6485": "6486",
    "10001": "20001",
    "8365": "8366",
    "52466": "52467 --dashboard-agent-listen-port=52367",
    "8180": "8181",
    # Some processes of its cluster name neither of its folders.
    '$W/server/"': '$W/server/\\|127.0.0.3"',
}
_KEYS = f"""
create table users (user_id uuid, email text);
create table keys (key_id uuid, user_id uuid);
create table user_tags (user_tag_id int, name text);
create table key_user_tag_assignments (key_id uuid, user_tag_id int);
insert into keys values ('{TRUSTED}', '{TRUSTED}'), ('{STRANGER}', '{STRANGER}');
insert into user_tags values (1, 'trusted');
insert into key_user_tag_assignments values ('{TRUSTED}', 1)
"""


def is_up(url: str = URL) -> bool:
    """Whether a server answers."""
    try:
        return httpx.get(f"{url}/connected", timeout=5).is_success
    except httpx.HTTPError:
        return False


def up(work: Path, kit: Path = KIT, **settings: str) -> None:
    """Start the server of a folder."""
    # The suite is offline; the server asks its stand-in for the hub.
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [kit / "up.sh", work]
    subprocess.run(command, check=True, timeout=400, stdout=subprocess.DEVNULL, env=own | settings)


def down(work: Path, kit: Path = KIT) -> None:
    """End it."""
    subprocess.run([kit / "down.sh", work], check=True, timeout=120, stdout=subprocess.DEVNULL)


@contextmanager
def second_host(first: Path) -> Iterator[None]:
    """Run a second server of the same programs on other ports, while the first one runs.

    It knows its keys from a database, and runs the jobs of a key without the tag `trusted` in a
    process each, as NDIF does.
    """
    work = first / "second"
    kit = work / "kit"
    for name in ("logs", "home", "ndif-home", "ray", "hf-server", "kit"):
        (work / name).mkdir(parents=True, exist_ok=True)
    for name, place in (("server", work), ("redis", work), ("hub", work)):
        if not (place / name).is_symlink():
            (place / name).symlink_to(first / name)
    if not (kit / "actors").is_symlink():
        (kit / "actors").symlink_to(KIT / "actors")
    for script in ("up.sh", "down.sh", "env.sh"):
        lines = (KIT / script).read_text()
        for old, new in _MOVED.items():
            lines = lines.replace(old, new)
        # Both share the first one's stand-in for the hub.
        lines = "".join(x for x in lines.splitlines(True) if not x.startswith("start hub"))
        (kit / script).write_text(lines)
        (kit / script).chmod(0o755)
    with running_postgres() as cluster:
        url = cluster.fresh_url()
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in _KEYS.split(";"):
                connection.execute(text(statement))
        engine.dispose()
        up(
            work,
            kit,
            NDIF_POSTGRES_URL=url.replace("+psycopg", ""),
            NDIF_MODEL_IMPORT_PATH="ndif_cpu_sandbox.CPUSandboxActor",
        )
        try:
            yield
        finally:
            down(work, kit)
