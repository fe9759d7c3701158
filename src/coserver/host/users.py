"""Names of users become numbers here, once and in the node: the keeper knows only numbers."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from coserver.errors import UsageError


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the kernel and the environment want it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def account(user: str) -> Account:
    """Return the account of a user's name or number. UsageError when there is none."""
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise UsageError(
            f'cannot run as "{user}": this machine has no such user; create it, or name another under `user`'
        ) from None
    return Account(
        name=found.pw_name,
        uid=found.pw_uid,
        gid=found.pw_gid,
        groups=tuple(os.getgrouplist(found.pw_name, found.pw_gid)),
        home=found.pw_dir,
        shell=found.pw_shell,
    )
