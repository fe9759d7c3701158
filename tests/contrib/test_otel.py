"""Traces with the real SDK: one from a submit to the end of all that comes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from coserver import Client, chain, using
from coserver.contrib import otel
from coserver.errors import StoreUnavailable
from coserver.model.job import NewJob, State
from coserver.runtime.isolated import Isolation
from coserver.store.contract import Store
from coserver.tasks import instrument as seam
from tests.contrib import traced
from tests.runtime.workers import auntil, info, working

OWN = "messaging.coserver"


class Spans:
    """What was traced so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    otel.instrument(made.provider)
    try:
        yield made
    finally:
        otel.uninstrument()
        made.provider.shutdown()


@pytest.fixture
def client(store_url: str) -> Iterator[Client]:
    with Client(store_url) as client, using(client):
        yield client


def context(span: ReadableSpan) -> trace.SpanContext:
    assert span.context is not None
    return span.context


def ids(span: ReadableSpan) -> tuple[str, str]:
    """The trace and the span, as they are written."""
    found = context(span)
    return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def worked(store: Store, body: Callable[[], Awaitable[Any]], **settings: Any) -> Any:
    """Run `body` while a worker works."""

    async def test() -> Any:
        async with working(store, **settings):
            return await body()

    return asyncio.run(test())


@pytest.mark.parametrize("task", [traced.traced, traced.traced_plain], ids=["async", "thread"])
def test_a_submit_and_its_run_are_one_trace_and_the_run_is_current_in_the_job(
    task: Any, spans: Spans, store: Store, client: Client
) -> None:
    """N9."""

    async def body() -> Any:
        with spans.tracer.start_as_current_span("request"):
            job = await task.asubmit()
        return job.id, await job

    job, found = worked(store, body)
    request, sent, run = (spans.one(name) for name in ("request", f"submit {task.name}", f"run {task.name}"))
    assert {context(span).trace_id for span in (request, sent, run)} == {context(request).trace_id}
    assert sent.parent == context(request)
    assert run.parent is not None
    assert run.parent.span_id == context(sent).span_id
    assert [link.context.span_id for link in run.links] == [context(sent).span_id]
    assert (found["trace"], found["span"]) == ids(run)
    assert (sent.kind, run.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    shared = {
        "messaging.system": "coserver",
        "messaging.destination.name": "default",
        "messaging.message.id": str(job),
        f"{OWN}.task": task.name,
    }
    said = shared | {"messaging.operation.name": "submit", "messaging.operation.type": "send"}
    assert attributes(sent) == said
    assert attributes(run) == shared | {
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        f"{OWN}.attempt": 1,
        f"{OWN}.crashes": 0,
        f"{OWN}.claim": 1,
        f"{OWN}.outcome": "succeeded",
    }
    assert run.status.status_code is trace.StatusCode.UNSET


def test_an_isolated_run_is_in_the_trace_of_its_submit(
    spans: Spans, store: Store, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(traced.FILE, str(tmp_path / "spans"))
    isolation = Isolation(1, setup="tests.contrib.traced:setup", tasks=("tests.contrib.traced",))

    async def body() -> Any:
        return await traced.traced_apart.asubmit()

    async def both() -> Any:
        job = await body()
        died = await traced.traced_die.asubmit()
        found = await job
        await auntil(lambda: info(store, died.id).state.final, "the second has ended")
        return job.id, found, died.id

    job, found, died = worked(store, both, isolation=isolation)
    sent = spans.one("submit traced_apart")
    (run,) = map(json.loads, (tmp_path / "spans").read_text().splitlines())
    assert run == {
        "name": "run traced_apart",
        "kind": "CONSUMER",
        "trace": ids(sent)[0],
        "span": found["span"],
        "parent": ids(sent)[1],
        "job": str(job),
        "outcome": "succeeded",
    }
    # The process could not tell of its own death; the worker does.
    crash = spans.one("run traced_die")
    assert info(store, died).state is State.LOST
    assert crash.parent is not None
    assert crash.parent.span_id == context(spans.one("submit traced_die")).span_id
    assert attributes(crash)["error.type"] == "crash"
    assert "exit status 3" in (crash.status.description or "")


def test_every_attempt_is_a_span_with_its_exception(spans: Spans, store: Store, client: Client) -> None:
    async def body() -> None:
        job = await traced.traced_fail.asubmit()
        await auntil(lambda: info(store, job.id).state.final, "it has failed")

    worked(store, body)
    sent, runs = spans.one("submit traced_fail"), spans.named("run traced_fail")
    assert {run.parent.span_id for run in runs if run.parent} == {context(sent).span_id}
    assert [attributes(run)[f"{OWN}.attempt"] for run in runs] == [1, 2]
    assert [attributes(run)[f"{OWN}.outcome"] for run in runs] == ["retry", "failed"]
    for run in runs:
        assert (run.status.status_code, run.status.description) == (trace.StatusCode.ERROR, "no such book")
        assert attributes(run)["error.type"] == "LookupError"
        (event,) = run.events
        told = dict(event.attributes or {})
        assert event.name == "exception"
        assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no such book")
        assert "raise LookupError" in str(told["exception.stacktrace"])


def test_what_a_job_submits_and_what_follows_it_stays_in_its_trace(
    spans: Spans, store: Store, client: Client
) -> None:
    async def body() -> None:
        parent = await traced.traced_parent.asubmit()
        await client.job(await parent)
        first = await traced.traced.asubmit()
        await first
        (then,) = [first.then(traced.traced_takes)]
        await auntil(lambda: info(store, then.id).state.final, "what follows has ended")
        last = (await chain(traced.traced_parent, traced.traced_takes).asubmit())[-1]
        await last

    worked(store, body)
    outer, *_ = spans.named("run traced_parent")
    below = spans.named("submit traced")[0]
    assert below.parent is not None
    assert below.parent.span_id == context(outer).span_id
    followed, following = spans.named("submit traced")[1], spans.one("submit traced_takes")
    assert context(following).trace_id == context(followed).trace_id
    assert [link.context.span_id for link in following.links] == [context(followed).span_id]
    flow = spans.one("submit")
    assert attributes(flow)["messaging.batch.message_count"] == 2
    runs = [span for span in spans.all() if span.parent and span.parent.span_id == context(flow).span_id]
    assert [run.name for run in runs] == ["run traced_parent", "run traced_takes"]


def test_a_job_that_carries_nothing_begins_a_trace(spans: Spans, store: Store) -> None:
    async def body() -> None:
        (job,) = store.submit([NewJob("traced", "[]", "default")])
        (other,) = store.submit([NewJob("traced", "[]", "default", options='{"traceparent":"nonsense"}')])
        await auntil(lambda: all(info(store, one).state.final for one in (job, other)), "they have ended")

    worked(store, body)
    assert [run.parent for run in spans.named("run traced")] == [None, None]


def test_a_submit_that_fails_says_so(spans: Spans, tmp_path: Path) -> None:
    with (
        Client(f"sqlite:{tmp_path}/no/such/place.db") as client,
        using(client),
        pytest.raises(StoreUnavailable),
    ):
        traced.traced.submit()
    sent = spans.one("submit traced")
    assert sent.status.status_code is trace.StatusCode.ERROR
    assert attributes(sent)["error.type"] == "coserver.errors.StoreUnavailable"
    assert [event.name for event in sent.events] == ["exception"]


def test_what_is_not_sampled_stays_so_in_the_run(spans: Spans, store: Store, client: Client) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    otel.instrument(provider)
    job = traced.traced.submit()
    otel.instrument(spans.provider)

    async def body() -> Any:
        return await job

    found = worked(store, body)
    assert spans.all() == []
    carried = seam.carrier(info(store, job.id).options)
    assert carried.traceparent is not None
    _, number, _, flags = carried.traceparent.split("-")
    assert (number, int(flags, 16) & 1) == (found["trace"], 0)
    provider.shutdown()


def test_without_a_provider_jobs_carry_nothing_and_options_stay_what_they_were(
    client: Client, store: Store
) -> None:
    otel.instrument()
    try:
        assert seam.active is not None
        assert seam.active.begin(None) is None  # type: ignore[arg-type]
        assert seam.active.fields() == {}
        plain, said = traced.traced.submit(), traced.traced.options(retries=3).submit()
    finally:
        otel.uninstrument()
    assert info(store, plain.id).options is None
    assert info(store, said.id).options == '{"retries":3}'


def test_a_trace_goes_along_beside_the_other_options(spans: Spans, client: Client, store: Store) -> None:
    job = traced.traced.options(retries=3).submit()
    options = json.loads(info(store, job.id).options or "")
    assert options.pop("traceparent").startswith("00-")
    assert options == {"retries": 3}


def test_a_tracer_that_fails_fails_no_job(
    spans: Spans,
    store: Store,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = traced.traced.submit()
    monkeypatch.setattr(spans.provider._active_span_processor, "on_start", lambda *_, **__: 1 / 0)

    async def body() -> Any:
        return await job

    assert worked(store, body)["span"] == "0" * 16
    assert "cannot trace a job" in caplog.text
