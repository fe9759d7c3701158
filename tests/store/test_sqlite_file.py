"""For whom the file of a store is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coserver.store import open_store
from tests.store_contract.helpers import job


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_whom_its_directory_belongs(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    os.chown(place, 4711, 4712)
    for mode, rights in ((0o755, 0o640), (0o770, 0o660), (0o707, 0o600)):
        place.chmod(mode)
        store = open_store(f"sqlite:{place}/{mode:o}.db")
        store.migrate()
        store.submit([job()])
        made = sorted(place.glob(f"{mode:o}.db*"))
        assert len(made) == 3
        assert {(f.stat().st_uid, f.stat().st_gid, f.stat().st_mode & 0o777) for f in made} == {
            (4711, 4712, rights)
        }
        store.close()
    kept = place / "755.db"
    os.chown(kept, 0, 0)
    open_store(f"sqlite:{kept}").migrate()
    assert kept.stat().st_uid == 0
