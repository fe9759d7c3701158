"""The actor of a service: order of events, timers, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from coserver.model.restart import RestartPolicy
from coserver.model.service import Began, Emptied, End, Ended, Fatal, Readiness, Rules, Running, Slot, Stopped
from coserver.runtime.service import Arrival, Service

CRASH = End(at=0, status=1)


@dataclass
class Timer:
    delay: float
    due: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Recorder:
    """Hands that only write down what they are asked."""

    asked: list[str] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    on_spawn: Callable[[str, int], None] | None = None

    def spawn(self, process: str, run: int) -> None:
        self.asked.append(f"spawn {process}#{run}")
        if self.on_spawn:
            self.on_spawn(process, run)

    def ask_to_end(self, process: str, run: int) -> None:
        self.asked.append(f"ask {process}#{run}")

    def kill(self, process: str, run: int) -> None:
        self.asked.append(f"kill {process}#{run}")

    def clear(self, process: str, run: int) -> None:
        self.asked.append(f"clear {process}#{run}")

    def forget(self, process: str, run: int) -> None:
        self.asked.append(f"forget {process}#{run}")

    def changed(self, process: str, before: Slot, after: Slot) -> None:
        self.changes.append(f"{process} {type(after.state).__name__}")

    def timer(self, delay: float, due: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, due))
        return self.timers[-1]


@pytest.fixture
def hands() -> Recorder:
    return Recorder()


def service(hands: Recorder, count: int = 1, **rules: object) -> Service:
    return Service("mail", count, Rules(**rules), hands, now=lambda: 50.0, chance=lambda: 0.5)  # type: ignore[arg-type]


def test_a_start_reaches_every_process_and_only_one_if_only_one_is_meant(hands: Recorder) -> None:
    mail = service(hands, 3)
    mail.start(only=2)
    assert hands.asked == ["spawn mail/2#1"]
    mail.start()
    assert hands.asked == ["spawn mail/2#1", "spawn mail/1#1", "spawn mail/3#1"]


def test_an_answer_during_an_action_waits_for_its_turn(hands: Recorder) -> None:
    mail = service(hands)
    hands.on_spawn = lambda _, run: mail.tell(1, Began(run, 77))
    mail.start()
    assert hands.changes == ["mail/1 Starting", "mail/1 Running"]


def test_timers_are_replaced_and_called_off(hands: Recorder) -> None:
    mail = service(hands, stop_timeout=5.0)
    mail.start()
    mail.tell(1, Began(1, 77))
    mail.stop()
    assert hands.timers[-1].delay == 5.0
    mail.tell(1, Ended(1, CRASH))
    assert [timer.cancelled for timer in hands.timers] == [True, False]
    mail.tell(1, Emptied(1))
    assert all(timer.cancelled for timer in hands.timers)
    assert hands.asked == ["spawn mail/1#1", "ask mail/1#1", "clear mail/1#1", "forget mail/1#1"]


def test_a_slot_that_is_taken_over_keeps_its_deadline(hands: Recorder) -> None:
    mail = service(hands)
    mail.start()
    mail.tell(1, Began(1, 77))
    mail.stop()
    heir = service(hands)
    heir.restore(1, mail.slots[1])
    hands.timers[-1].due()
    assert hands.asked[-1] == "kill mail/1#1"


def test_news_for_a_process_that_there_is_none_of_are_ignored(hands: Recorder) -> None:
    service(hands).tell(9, Ended(1, CRASH))
    assert hands.asked == hands.changes == []


def arrivals(*waits: object) -> list[Arrival]:
    return [w.result() for w in waits]  # type: ignore[attr-defined]


def test_who_waits_for_up_hears_of_readiness_and_not_before(hands: Recorder) -> None:
    async def scenario() -> None:
        mail = service(hands, reports_ready=True)
        mail.start()
        waits = [asyncio.create_task(mail.arrive("up")) for _ in range(3)]
        mail.tell(1, Began(1, 77))
        await asyncio.sleep(0)
        assert not any(wait.done() for wait in waits)
        mail.tell(1, Readiness(1, True))
        assert await asyncio.gather(*waits) == [Arrival("arrived")] * 3

    asyncio.run(scenario())


def test_a_later_command_ends_the_wait_of_an_earlier_one(hands: Recorder) -> None:
    async def scenario() -> None:
        mail = service(hands)
        mail.start()
        wait = asyncio.create_task(mail.arrive("up"))
        await asyncio.sleep(0)
        mail.stop()
        assert await wait == Arrival("superseded")

    asyncio.run(scenario())


def test_a_process_that_is_given_up_fails_the_wait(hands: Recorder) -> None:
    async def scenario() -> None:
        mail = service(hands, restart=RestartPolicy(give_up=(1, 60.0)))
        mail.start()
        wait = asyncio.create_task(mail.arrive("up"))
        for event in (Began(1, 77), Ended(1, CRASH), Emptied(1)):
            mail.tell(1, event)
        assert isinstance(mail.slots[1].state, Fatal)
        assert await wait == Arrival("failed")

    asyncio.run(scenario())


def test_down_is_reached_when_all_rest(hands: Recorder) -> None:
    async def scenario() -> None:
        mail = service(hands, 2)
        mail.start()
        mail.tell(1, Began(1, 77))
        mail.tell(2, Began(1, 78))
        assert all(isinstance(slot.state, Running) for _, slot in mail.processes())
        mail.stop()
        wait = asyncio.create_task(mail.arrive("down"))
        for event in (Ended(1, CRASH), Emptied(1)):
            mail.tell(1, event)
            await asyncio.sleep(0)
            assert not wait.done()
            mail.tell(2, event)
        assert await wait == Arrival("arrived")
        assert all(isinstance(slot.state, Stopped) for _, slot in mail.processes())

    asyncio.run(scenario())
