"""What may another user do here? The kernel is asked, in the name of that user.

Reckoning with mode bits would be wrong wherever access lists or capabilities decide, so a small program (`test`) is run
as that user, with its groups. Only root can do that; anybody else can only become the user that they are.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Literal

from coserver.host.users import Account

Deed = Literal["read", "write", "enter", "execute"]
_TESTS: dict[Deed, str] = {"read": "-r", "write": "-w", "enter": "-x", "execute": "-x"}
PATIENCE = 5.0
"""Seconds for an answer; a network file system may be away."""


def may(user: Account, deed: Deed, path: Path) -> bool | None:
    """Tell whether a user may do this with a file or directory; None when that cannot be found out."""
    root = os.geteuid() == 0
    if not root and user.uid != os.geteuid():
        return None
    try:
        done = subprocess.run(
            ["test", _TESTS[deed], str(path)],
            cwd="/",
            user=user.uid if root else None,
            group=user.gid if root else None,
            extra_groups=user.groups if root else None,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.returncode == 0
