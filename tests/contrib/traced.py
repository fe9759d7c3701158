"""Tasks that are traced and log, a setup that keeps spans in memory, and one that writes them to a file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from coserver import Retry, current_job, task
from coserver.contrib.otel import instrument

FILE = "COSERVER_TEST_SPANS"

log = logging.getLogger("tests.traced")


def where() -> dict[str, Any]:
    """The span that this code runs in, and the job."""
    here = trace.get_current_span().get_span_context()
    ids = {"trace": trace.format_trace_id(here.trace_id), "span": trace.format_span_id(here.span_id)}
    return {"job": current_job().id, "pid": os.getpid(), **ids}


@task(name="traced")
async def traced() -> dict[str, Any]:
    log.info("in the loop")
    return where()


@task(name="traced_plain")
def traced_plain() -> dict[str, Any]:
    log.info("in a thread")
    return where()


@task(name="traced_apart", isolate=True)
def traced_apart() -> dict[str, Any]:
    log.warning("in a process\nof its own")
    return where()


@task(name="traced_parent")
async def traced_parent() -> int:
    return (await traced.asubmit()).id


@task(name="traced_fail", retries=Retry(1, backoff="1ms..2ms"))
async def traced_fail() -> None:
    raise LookupError("no such book")


@task(name="traced_takes")
async def traced_takes(of: Any) -> Any:
    return of


@task(name="traced_die", isolate=True, on_lost="fail")
def traced_die() -> None:
    os._exit(3)


class ToFile(SpanExporter):
    """Appends what matters of each span as a line of JSON."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            assert span.context is not None
            entry = {
                "name": span.name,
                "kind": span.kind.name,
                "trace": trace.format_trace_id(span.context.trace_id),
                "span": trace.format_span_id(span.context.span_id),
                "parent": trace.format_span_id(span.parent.span_id) if span.parent else None,
                "job": (span.attributes or {}).get("messaging.message.id"),
                "outcome": (span.attributes or {}).get("messaging.coserver.outcome"),
            }
            with self._file.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return SpanExportResult.SUCCESS


def setup() -> None:
    """What an application's setup does: configure the SDK, and switch the instrument on."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(Path(os.environ[FILE]))))
    trace.set_tracer_provider(provider)
    instrument()
