"""Group commit: threads that submit while another one commits are taken along by the next commit.

Theory. One thread leads at a time. It takes everybody who waits (itself included), commits for all of them at once,
tells them, and hands the lead to one of those who came meanwhile. So a commit carries as many submissions as arrived
during the one before, nobody leads twice without having asked twice, and a lone thread pays nothing for the others.

Nor does anybody pay for what another asks: if the database refuses a group for its content, each submission of it is
committed alone, and only who is refused then is told so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from coserver.errors import CoserverError, InvalidArguments, StoreRefused, StoreUnavailable
from coserver.store.fork import watch_forks

Item = TypeVar("Item")


@dataclass(slots=True)
class _Submission(Generic[Item]):
    items: Sequence[Item]
    turn: threading.Event = field(default_factory=threading.Event)
    ids: list[int] | None = None
    error: CoserverError | None = None


class GroupCommit(Generic[Item]):
    """`commit` stores several submissions in one transaction and returns the ids of each; `most` is how many items
    one group takes at most, unless a single submission has more."""

    def __init__(self, commit: Callable[[list[Sequence[Item]]], list[list[int]]], *, most: int) -> None:
        self._commit = commit
        self._most = most
        self.forked()
        watch_forks(self)

    def fork_locks(self) -> Iterable[threading.Lock]:
        return (self._lock,)

    def forked(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Submission[Item]] = []
        self._led = False

    @property
    def waiting(self) -> int:
        """How many submissions are not yet in a group."""
        return len(self._waiting)

    def submit(self, items: Sequence[Item]) -> list[int]:
        """Commit `items`, alone or in company; return their ids. Raises what the commit raised."""
        mine = _Submission(items)
        with self._lock:
            self._waiting.append(mine)
            lead, self._led = not self._led, True
        if not lead:
            try:
                mine.turn.wait()
            except BaseException:
                self._abandon(mine)
                raise
        if mine.ids is None and mine.error is None:
            self._lead()
        if mine.error is not None:
            raise type(mine.error)(*mine.error.args) from mine.error
        assert mine.ids is not None
        return mine.ids

    def _lead(self) -> None:
        """Commit one group, then hand on the lead. The caller's own submission is the first in line."""
        with self._lock:
            group = self._take()
        failure: CoserverError = StoreUnavailable(
            "cannot submit: the thread that committed was interrupted; try again"
        )
        try:
            self._commit_together(group)
        except CoserverError as error:
            failure = error
        finally:
            with self._lock:
                for submission in group:
                    if submission.ids is None and submission.error is None:
                        submission.error = failure
                    submission.turn.set()
                self._hand_on()

    def _commit_together(self, group: list[_Submission[Item]]) -> None:
        """Commit a group at once, or, if that is refused, each of it alone. Raises what concerns all that are left."""
        try:
            for submission, ids in zip(group, self._commit([one.items for one in group]), strict=True):
                submission.ids = ids
        except (StoreRefused, InvalidArguments) as error:
            if len(group) == 1:
                group[0].error = error
                return
            for submission in group:
                self._commit_together([submission])

    def _hand_on(self) -> None:
        """Give the lead to the first in line, if there is one. The caller holds the lock."""
        self._led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set()

    def _abandon(self, mine: _Submission[Item]) -> None:
        """The waiting thread was interrupted: it stands in nobody's way, though its items may be committed already."""
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                if mine.turn.is_set():
                    self._hand_on()

    def _take(self) -> list[_Submission[Item]]:
        size = end = 0
        for submission in self._waiting:
            if end and size + len(submission.items) > self._most:
                break
            size += len(submission.items)
            end += 1
        group, self._waiting = self._waiting[:end], self._waiting[end:]
        return group
