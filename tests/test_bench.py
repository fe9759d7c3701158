"""The benchmark runs and prints; what it measures on a busy machine is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_benchmark_measures_both_databases_beside_the_hand_written_loop(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in out.read_text().splitlines()]
    machine = next(record for record in records if record["kind"] == "machine")
    assert {"processor", "cores", "fdatasync", "python"} <= machine.keys()
    databases = {record["database"]: record for record in records if record["kind"] == "database"}
    assert databases["SQLite"]["synchronous"].startswith("FULL")
    assert (databases["PostgreSQL"]["fsync"], databases["PostgreSQL"]["synchronous_commit"]) == ("on", "on")
    measured = [record for record in records if record["kind"] == "measurement"]
    rows = {(record["database"], record["what"], record["by"]) for record in measured}
    for database in ("SQLite", "PostgreSQL"):
        for by in ("coserver", "bare"):
            for what in (
                "enqueue, one commit each",
                "enqueue, 1000 per commit",
                "drain, 1 process",
                "enqueue to start, p50",
                "enqueue to start, p99",
            ):
                assert (database, what, by) in rows
        assert (database, "drain, 2 processes", "coserver") in rows
        assert (database, "drain plain functions, 1 process", "coserver") in rows
    assert all(record["value"] > 0 for record in measured)
    table = done.stdout[done.stdout.index("| database") :].splitlines()
    assert len(table) == 2 + len({(row[0], row[1]) for row in rows})
    assert len({len(line) for line in table}) == 1
    assert "synchronous_commit on" in done.stdout
