"""What every thread and every asyncio task of this process is doing, as text."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback


def stacks(loop: asyncio.AbstractEventLoop | None) -> str:
    """Return the stacks of all threads, and of all tasks of `loop`. May be called by any thread, also while the loop
    is blocked."""
    text = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        print(f"Thread {names.get(ident, ident)}", file=text)
        text.writelines(traceback.format_stack(frame))
        print(file=text)
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name) if loop is not None else ():
        task.print_stack(file=text)
        print(file=text)
    return text.getvalue()
