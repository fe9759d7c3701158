"""The files that `coserver init` writes: for a project with an application, and for an empty directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coserver.cli.detect import Application, Project

CONFIGURATION = "coserver.toml"
FACTORY_MODULE = "coserver_app"
PORT = 8000


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written, relative to the site's directory."""

    name: str
    text: str


def for_application(one: Application, project: Project) -> list[NewFile]:
    """Return the files that run an application that is there."""
    roots = [one.root, *(root for _, root in project.tasks)]
    modules = list(dict.fromkeys(module for module, _ in project.tasks))
    files = []
    reference = one.reference
    if one.factory:
        module, _, name = reference.partition(":")
        files.append(NewFile(f"{FACTORY_MODULE}.py", _FACTORY.format(module=module, name=name)))
        reference = f"{FACTORY_MODULE}:app"
        roots.append(Path())
    paths = ", ".join(f'"{root.as_posix()}"' for root in dict.fromkeys(roots))
    text = _SITE + _APP.format(path=paths)
    if modules:
        text += "tasks = [" + ", ".join(f'"{module}"' for module in modules) + "]\n"
    text += _WEB.format(framework=one.framework, interface=one.interface, reference=reference, port=PORT)
    text += _WORKER if modules else _HINT_WORKER
    return [NewFile(CONFIGURATION, text + _HINT_COMMAND), *files]


def starter() -> list[NewFile]:
    """Return a small working site: a page, and a task that a worker runs for it."""
    text = _SITE + _APP.format(path='"."') + 'tasks = ["tasks"]\n'
    text += _WEB.format(framework="Starlette", interface="asgi", reference="web:app", port=PORT)
    return [
        NewFile(CONFIGURATION, text + _WORKER + _HINT_COMMAND),
        NewFile("tasks.py", _STARTER_TASKS),
        NewFile("web.py", _STARTER_WEB),
    ]


_SITE = """\
# What runs here, and how.
# `coserver config check` tells what is wrong with this file, `coserver config show` prints every key with its value.

[site]
store = "sqlite:site.db"                # the jobs; "postgresql://user@host/name" takes them, too
"""

_APP = """
[app]                                   # for every Python service
path = [{path}]
"""

_WEB = """
[service.web]                           # {framework}
{interface} = "{reference}"
bind = "127.0.0.1:${{PORT:-{port}}}"
"""

_WORKER = """
[service.worker]                        # runs the jobs, so many at once in each process
queues = { default = 4 }
"""

_HINT_WORKER = """
# A worker for jobs, as soon as a module such as `shop.tasks` declares tasks (`from coserver import task`):
#
# [service.worker]
# tasks = ["shop.tasks"]
# queues = { default = 4 }
"""

_HINT_COMMAND = """
# Any other program can run beside that:
#
# [service.redis]
# command = "redis-server --port 6400"
"""

_FACTORY = '''\
"""The application that coserver serves, made by the project's own factory."""

from {module} import {name}

app = {name}()
'''

_STARTER_TASKS = '''\
"""What is done in the background: functions that run as jobs, in the processes of the service `worker`."""

from coserver import task


@task(retries=3)
def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())
'''

_STARTER_WEB = '''\
"""The web application of this site, served by the service `web`."""

from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tasks import count_words

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Word counter</title>
<h1>Word counter</h1>
<form><label>Text: <input name="text" value="{text}" size="60"></label> <button>Count</button></form>
<p>{answer}</p>
"""


async def home(request: Request) -> HTMLResponse:
    """Let a worker count the words of `?text=…`, and show its answer."""
    text = request.query_params.get("text", "")
    answer = ""
    if text:
        job = await count_words.asubmit(text)
        answer = f"Job {job.id} has counted {await job.aresult('10s')} words."
    return HTMLResponse(PAGE.format(text=escape(text), answer=answer))


app = Starlette(routes=[Route("/", home)])
'''
