"""Traces by OpenTelemetry: one from the submit of a job to its end, whatever processes and hosts lie between.

`[app] setup = "coserver.contrib.otel:instrument"` switches it on in every Python service, or a call of `instrument()`
in a setup of one's own, which is also the place to configure the SDK. Without a call nothing is done, and where no SDK
is configured next to nothing. Needs `pip install 'coserver[otel]'`.

Theory. A submit is a span of kind *producer*; its context travels in the jobs' options as W3C Trace Context. Each run
of a job is a span of kind *consumer*, which is the child of that submit and, as the conventions ask, also linked to it;
so a retry is one more child, told apart by its attempt. What a job submits is below its run, since the run's span is
current there. The jobs of a flow are submitted together and stay together. A job that is to follow one submitted
earlier (`job.then`, `after=`) is linked to it, and belongs to its trace when the submit belongs to no other.

Names and attributes follow the semantic conventions for messaging, as of version 1.44 (their state is "development");
what is coserver's own is `messaging.coserver.*`. Spans are named by the task and not by the queue, which every task may
share.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        NoOpTracerProvider,
        ProxyTracerProvider,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        Tracer,
        TracerProvider,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"no module {error.name}; install it with pip install 'coserver[otel]'", name=error.name
    ) from None

import msgspec

from coserver import __version__
from coserver.errors import JobTimeout
from coserver.model.job import (
    Cancelled,
    Claimed,
    Crashed,
    Error,
    Failed,
    Interrupted,
    NewJob,
    Outcome,
    Release,
    Retry,
    Succeeded,
    TakeOver,
)
from coserver.tasks import instrument as seam
from coserver.tasks.instrument import Carrier, Ending

__all__ = ["instrument", "uninstrument"]

log = logging.getLogger("coserver.otel")

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
OWN = "messaging.coserver"

_w3c = TraceContextTextMapPropagator()
_read_error = msgspec.json.Decoder(Error).decode


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Follow the submits and runs of this process from now on, with the provider that is configured globally at that
    time, or with this one. Calling it again replaces the provider."""
    seam.active = _Tracing(tracer_provider)


def uninstrument() -> None:
    """End of `instrument`."""
    seam.active = None


class _Plain:
    """A submit that nobody follows."""

    def __init__(self, jobs: Sequence[NewJob]) -> None:
        self.jobs = jobs

    def stored(self, ids: Sequence[int]) -> None:
        """As `tasks.instrument.Submitting.stored`."""


class _Submit(_Plain):
    """A submit with its span."""

    def __init__(self, jobs: Sequence[NewJob], span: Span) -> None:
        carried = _carrier(span)
        super().__init__(
            [_replace_options(job, seam.carrying(job.options, carried)) for job in jobs]
            if carried.traceparent is not None
            else jobs
        )
        self._span = span

    def stored(self, ids: Sequence[int]) -> None:
        if len(ids) == 1:
            self._span.set_attribute("messaging.message.id", str(abs(ids[0])))
        if known := sum(number < 0 for number in ids):
            self._span.set_attribute(f"{OWN}.duplicates", known)


class _Tracing:
    """The instrument (see `tasks.instrument.Instrument`)."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._made: tuple[TracerProvider, Tracer] | None = None

    def _tracer(self) -> Tracer | None:
        """The tracer of the provider as it is now; None when nothing is configured that would take spans."""
        provider = self._provider or trace.get_tracer_provider()
        made = self._made
        if made is not None and made[0] is provider:
            return made[1]
        if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
            return None
        tracer = provider.get_tracer("coserver", __version__, schema_url=SCHEMA)
        self._made = provider, tracer
        return tracer

    @contextmanager
    def submitting(self, jobs: Sequence[NewJob], before: Sequence[Carrier]) -> Iterator[_Plain]:
        tracer = self._tracer()
        if tracer is None or not jobs:
            yield _Plain(jobs)
            return
        followed = [found for one in before if (found := _carried(one)) is not None]
        context = None
        if followed and not trace.get_current_span().get_span_context().is_valid:
            context = trace.set_span_in_context(NonRecordingSpan(followed[0]))
        task, queue = _shared(job.task for job in jobs), _shared(job.queue for job in jobs)
        attributes = _attributes("submit", "send", task, queue)
        if len(jobs) > 1:
            attributes["messaging.batch.message_count"] = len(jobs)
        with tracer.start_as_current_span(
            "submit" if task is None else f"submit {task}",
            context,
            SpanKind.PRODUCER,
            attributes,
            [Link(one) for one in followed],
        ) as span:
            try:
                yield _Submit(jobs, span)
            except Exception as error:
                span.set_attribute("error.type", _kind(error))
                raise

    def begin(self, claimed: Claimed) -> Ending | None:
        ending: Ending | None = _never_raising(self._begin, claimed)
        return ending

    def _begin(self, claimed: Claimed) -> Ending | None:
        tracer = self._tracer()
        if tracer is None:
            return None
        span = self._start(tracer, claimed)
        # The run has a context of its own, which nobody uses after it: there is nothing to restore.
        attach(trace.set_span_in_context(span))
        return lambda outcome, late: _never_raising(_end, span, outcome, late)

    def crashed(self, claimed: Claimed, at: int, outcome: Outcome) -> None:
        tracer = self._tracer()
        if tracer is not None:
            _never_raising(lambda: _end(self._start(tracer, claimed, at), outcome, False))

    @staticmethod
    def _start(tracer: Tracer, claimed: Claimed, at: int | None = None) -> Span:
        creation = _carried(seam.carrier(claimed.options))
        context = Context()
        if creation is not None:
            context = trace.set_span_in_context(NonRecordingSpan(creation), context)
        return tracer.start_span(
            f"run {claimed.task}",
            context,
            SpanKind.CONSUMER,
            {
                **_attributes("run", "process", claimed.task, claimed.queue),
                "messaging.message.id": str(claimed.id),
                f"{OWN}.attempt": claimed.attempt + 1,
                f"{OWN}.crashes": claimed.crashes,
                f"{OWN}.claim": claimed.claim,
            },
            None if creation is None else [Link(creation)],
            start_time=at,
        )

    def fields(self) -> Mapping[str, str]:
        here = trace.get_current_span().get_span_context()
        if not here.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(here.trace_id),
            "span_id": trace.format_span_id(here.span_id),
        }


def _attributes(name: str, type: str, task: str | None, queue: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": "coserver",
        "messaging.operation.name": name,
        "messaging.operation.type": type,
    }
    if queue is not None:
        found["messaging.destination.name"] = queue
    if task is not None:
        found[f"{OWN}.task"] = task
    return found


def _end(span: Span, outcome: Outcome, late: bool) -> None:
    word = _word(outcome)
    match outcome:
        case _ if late:
            word = "timed out"
            _wrong(span, f"{JobTimeout.__module__}.{JobTimeout.__qualname__}", "it took too long")
        case Failed() | Retry():
            error = _read_error(outcome.error)
            if span.is_recording():
                span.add_event(
                    "exception",
                    {
                        "exception.type": error.type,
                        "exception.message": error.message,
                        "exception.stacktrace": error.traceback,
                    },
                )
            _wrong(span, error.type, error.message)
        case Crashed():
            _wrong(span, "crash", outcome.note)
        case Succeeded() | Cancelled() | Release() | Interrupted() | TakeOver():
            pass
    span.set_attribute(f"{OWN}.outcome", word)
    span.end()


def _word(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "succeeded"
        case Failed():
            return "failed"
        case Retry():
            return "retry"
        case Release() | Interrupted():
            return "released"
        case Cancelled():
            return "cancelled"
        case TakeOver():
            return "handed over"
        case Crashed():
            return "crashed"


def _wrong(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, message))


def _kind(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _shared(values: Iterator[Any]) -> Any:
    """Return the value that all are, None when they differ."""
    first = next(values)
    return first if all(value == first for value in values) else None


def _carrier(span: Span) -> Carrier:
    headers: dict[str, str] = {}
    _w3c.inject(headers, trace.set_span_in_context(span, Context()))
    return Carrier(headers.get("traceparent"), headers.get("tracestate"))


def _carried(carrier: Carrier) -> SpanContext | None:
    headers = {"traceparent": carrier.traceparent or "", "tracestate": carrier.tracestate or ""}
    found = trace.get_current_span(_w3c.extract(headers, Context())).get_span_context()
    return found if found.is_valid else None


def _replace_options(job: NewJob, options: str | None) -> NewJob:
    return msgspec.structs.replace(job, options=options)


def _never_raising(call: Callable[..., Any], *args: Any) -> Any:
    """Whatever a tracer does must not be a job's end."""
    try:
        return call(*args)
    except Exception:
        log.exception("cannot trace a job")
        return None
