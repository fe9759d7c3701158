"""A copy of a store in one file, made while it is in use.

Theory. A copy is worth something only if it is of one moment, whole, and readable; and a copy that failed must not
stand where a good one stood. So it is made beside its place under another name, checked, brought to the disk, and only
then given its name, in one step.

Nothing, not even `force`, lets it take the name of the store itself (whoever has the store open would go on in a file
without a name, beside a log that fits neither), of the store's log, or of any database whose log lies beside it: the
log of the one that was there would be played into the copy.

SQLite copies itself (`VACUUM INTO`): one reading transaction, hence one moment, and nobody who writes waits for it. It
must be the store's own library that reads the file, because a second one in this process would drop the locks of the
first (see `driver`); that is also why copying the file by other means is no backup. PostgreSQL's is made by its own
`pg_dump`: the tables of coserver, in one transaction. A password goes to it by its environment, never by its command
line, which every user of the machine can read.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from coserver.errors import BackupFailed, StoreUnavailable, UsageError
from coserver.store.driver import Trouble, connect
from coserver.store.sqlite_file import SQLiteFile
from coserver.store.url import PostgresUrl, SQLiteUrl, parse_url

TABLES = "coserver_*"
BESIDE = ("-wal", "-shm", "-journal")
"""What the names of the files end with that SQLite keeps beside a database."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made: of which store (its URL without a password), how large in bytes, in how many seconds."""

    store: str
    size: int
    seconds: float


def backup(url: str, to: Path, *, force: bool = False, environ: Mapping[str, str] | None = None) -> Backup:
    """Copy the store at `url` into the file `to`, readable by its owner alone. Blocks for as long as it takes.

    Raises UsageError when there is such a file, unless `force`, and in any case when it is the store, a database in use
    or no regular file; StoreUnavailable when the store cannot be read, and BackupFailed when the copy cannot be
    made or is not whole. `environ` is what pg_dump gets (this process's own).
    """
    where = parse_url(url)
    to = to.absolute()
    if isinstance(where, SQLiteUrl):
        _refuse_store(Path(where.path).absolute(), to)
    _refuse_unfit(to)
    if not force and to.exists():
        raise UsageError(
            f"cannot back up to {to}: it exists; name another file, or say --force to replace it"
        )
    began = time.monotonic()
    with _beside(where.masked, to, force=force) as partial:
        match where:
            case SQLiteUrl():
                _copy_sqlite(where, partial)
            case PostgresUrl():
                _dump_postgres(where, partial, dict(os.environ if environ is None else environ))
        size = partial.stat().st_size
    return Backup(where.masked, size, time.monotonic() - began)


def _refuse_store(store: Path, to: Path) -> None:
    """Refuse the store's own files, under whatever names, and the names at which SQLite would look for them."""
    theirs = [store, *(store.with_name(store.name + end) for end in BESIDE)]
    names = {file.name for file in theirs} | {store.resolve().name + end for end in ("", *BESIDE)}
    if any(_same(to, file) for file in theirs) or (
        to.name in names and (_same(to.parent, store.parent) or _same(to.parent, store.resolve().parent))
    ):
        raise UsageError(
            f"cannot back up to {to}: that is the store itself, or belongs to it; name another file"
        )


def _refuse_unfit(to: Path) -> None:
    """Refuse what is no regular file, and the name of a database whose log lies beside it."""
    if to.exists() and not to.is_file():
        raise UsageError(f"cannot back up to {to}: it is no regular file; name a file")
    for log in (to.with_name(to.name + end) for end in ("-wal", "-journal")):
        if os.path.lexists(log):
            raise UsageError(
                f"cannot back up to {to}: {log.name} lies beside it, so a database of that name is in use, or was not "
                "closed; name another file"
            )


def _same(one: Path, other: Path) -> bool:
    """Whether both are there and one file, by device and inode."""
    try:
        return one.samefile(other)
    except OSError:
        return False


@contextmanager
def _beside(store: str, to: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty file beside `to`, which takes that name at the end, or goes when anything went wrong."""
    partial = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        try:
            yield partial
            _sync(partial)
            if force:
                partial.replace(to)
            else:
                os.link(partial, to)  # unlike a renaming, this replaces nothing
        finally:
            for name in (
                partial,
                *(partial.with_name(partial.name + end) for end in BESIDE),
            ):
                with suppress(FileNotFoundError):
                    name.unlink()
        _sync(to.parent)
    except FileExistsError:
        raise UsageError(f"cannot back up to {to}: it exists; name another file") from None
    except OSError as error:
        raise BackupFailed(
            f"cannot back up {store} to {to}: {error.strerror or error}; see that its directory is there, has room "
            "and may be written"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_sqlite(where: SQLiteUrl, partial: Path) -> None:
    file = SQLiteFile(where, random.random)
    try:
        with closing(file.open(check=False)) as database:
            file.patiently(lambda: database.all("VACUUM INTO ?", (str(partial),)))
    except StoreUnavailable as error:
        raise type(error)(
            str(error).replace("cannot open the store", "cannot back up the store", 1)
        ) from error
    finally:
        file.close()
    try:
        with closing(connect(str(partial), where.driver, create=False)) as copy:
            said = [row[0] for row in copy.all("PRAGMA integrity_check")]
    except Trouble as trouble:
        said = [str(trouble)]
    if said != ["ok"]:
        raise BackupFailed(
            f"cannot back up {where.masked}: the copy is not sound ({said[0]}); run `PRAGMA integrity_check` on the "
            "store itself, it may be damaged"
        )


def _dump_postgres(where: PostgresUrl, partial: Path, environ: dict[str, str]) -> None:
    program = shutil.which("pg_dump", path=environ.get("PATH"))
    if program is None:
        raise BackupFailed(
            f"cannot back up {where.masked}: pg_dump is not on PATH; install PostgreSQL's client programs "
            "(`apt install postgresql-client`), of the server's version or newer"
        )
    try:
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as error:
        raise StoreUnavailable(
            f"cannot open the store {where.masked}: {error}; install it with: pip install 'psycopg[binary]'"
        ) from error
    parts = {
        name: str(value) for name, value in conninfo_to_dict(where.conninfo).items() if value is not None
    }
    password = parts.pop("password", None)
    if password is not None:
        environ["PGPASSWORD"] = password
    dump = [program, "--format=custom", f"--table={TABLES}", "--no-password", f"--file={partial}"]
    _run([*dump, f"--dbname={make_conninfo(**parts)}"], environ, where.masked)
    reader = shutil.which("pg_restore", path=environ.get("PATH"))
    if reader is not None:
        _run([reader, "--list", str(partial)], environ, where.masked)


def _run(command: list[str], environ: dict[str, str], store: str) -> None:
    try:
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise BackupFailed(f"cannot back up {store}: {command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"exit status {done.returncode}"
        ]
        raise BackupFailed(
            f"cannot back up {store}: {Path(command[0]).name} said: {'; '.join(lines[:3])}; mend that, then try again"
        )
