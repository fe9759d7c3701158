"""What application a project holds, by its source alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from coserver.cli.detect import Application, look_at


def project(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def first(directory: Path, files: dict[str, str]) -> Application:
    return look_at(project(directory, files)).applications[0]


FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
FLASK = "from flask import Flask\n\napp = Flask(__name__)\n"

CASES = {
    "a module": ({"main.py": FASTAPI}, ("FastAPI", "asgi", "main:app", ".")),
    "a package": (
        {"shop/__init__.py": "", "shop/main.py": FASTAPI},
        ("FastAPI", "asgi", "shop.main:app", "."),
    ),
    "a package itself": ({"shop/__init__.py": FLASK}, ("Flask", "wsgi", "shop:app", ".")),
    "src": ({"src/shop/__init__.py": "", "src/shop/web.py": FLASK}, ("Flask", "wsgi", "shop.web:app", "src")),
    "src without __init__": ({"src/shop/web.py": FLASK}, ("Flask", "wsgi", "shop.web:app", "src")),
    "a module in src": ({"src/web.py": FLASK}, ("Flask", "wsgi", "web:app", "src")),
    "a directory that is no package": (
        {"backend/main.py": "import models\n" + FASTAPI, "backend/models.py": ""},
        ("FastAPI", "asgi", "main:app", "backend"),
    ),
    "a directory that is imported by name": (
        {"app/main.py": "from app import models\n" + FASTAPI, "app/models.py": ""},
        ("FastAPI", "asgi", "app.main:app", "."),
    ),
    "another name": (
        {"web.py": "import fastapi as f\n\nsite: f.FastAPI = f.FastAPI(title='x')\n"},
        ("FastAPI", "asgi", "web:site", "."),
    ),
    "starlette": (
        {"web.py": "from starlette.applications import Starlette\napp = Starlette()\n"},
        ("Starlette", "asgi", "web:app", "."),
    ),
    "a mounted application beside": (
        {
            "main.py": "from fastapi import FastAPI\nadmin = FastAPI()\napp = FastAPI()\napp.mount('/a', admin)\n"
        },
        ("FastAPI", "asgi", "main:app", "."),
    ),
    "inside try": (
        {"app.py": "try:\n    from flask import Flask\n    app = Flask('x')\nfinally:\n    pass\n"},
        ("Flask", "wsgi", "app:app", "."),
    ),
    "tests are not meant": (
        {"tests/app.py": FLASK, "test_app.py": FLASK, "shop/deep/web.py": FASTAPI},
        ("FastAPI", "asgi", "web:app", "shop/deep"),
    ),
    "a factory that is called": (
        {
            "shop/__init__.py": "from flask import Flask\ndef create_app(c=None):\n    return Flask(__name__)\n",
            "wsgi.py": "from shop import create_app\napplication = create_app()\n",
        },
        ("Flask", "wsgi", "wsgi:application", "."),
    ),
    "a factory that is called from its own package": (
        {
            "shop/__init__.py": "",
            "shop/factory.py": "import flask\ndef create_app():\n    app = flask.Flask('x')\n    return app\n",
            "shop/wsgi.py": "from .factory import create_app\napp = create_app()\n",
        },
        ("Flask", "wsgi", "shop.wsgi:app", "."),
    ),
    "a factory in the same module": (
        {
            "main.py": "from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\napp = create_app()\n"
        },
        ("FastAPI", "asgi", "main:app", "."),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_application_is_found(tmp_path: Path, case: str) -> None:
    files, (framework, interface, reference, root) = CASES[case]
    found = first(tmp_path, files)
    assert (found.framework, found.interface, found.reference) == (framework, interface, reference)
    assert found.root == Path(root)
    assert not found.factory


def test_a_factory_that_nobody_calls_is_found_as_one(tmp_path: Path) -> None:
    found = first(
        tmp_path, {"shop.py": "from flask import Flask\ndef create_app():\n    return Flask('x')\n"}
    )
    assert (found.reference, found.factory) == ("shop:create_app", True)


def test_a_factory_that_needs_arguments_is_not_one(tmp_path: Path) -> None:
    files = {"shop.py": "from flask import Flask\ndef create_app(config):\n    return Flask('x')\n"}
    assert look_at(project(tmp_path, files)).applications == ()


WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
ASGI = "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
DJANGO = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
    "shop/__init__.py": "",
    "shop/settings.py": "WSGI_APPLICATION = 'shop.wsgi.application'\n",
    "shop/wsgi.py": WSGI,
    "shop/asgi.py": ASGI,
}


def test_django_is_served_as_its_settings_say(tmp_path: Path) -> None:
    assert first(tmp_path / "a", DJANGO).reference == "shop.wsgi:application"
    asynchronous = DJANGO | {"shop/settings.py": "ASGI_APPLICATION = 'shop.asgi.application'\n"}
    assert first(tmp_path / "b", asynchronous).reference == "shop.asgi:application"


def test_djangos_application_is_found_inside_a_router(tmp_path: Path) -> None:
    routed = (
        "from django.core.asgi import get_asgi_application\nfrom channels.routing import ProtocolTypeRouter\n"
        "application = ProtocolTypeRouter({'http': get_asgi_application()})\n"
    )
    settings = "ASGI_APPLICATION = 'shop.asgi.application'\n"
    found = first(tmp_path, DJANGO | {"shop/asgi.py": routed, "shop/settings.py": settings})
    assert found.reference == "shop.asgi:application"


def test_environments_and_hidden_directories_are_passed_over(tmp_path: Path) -> None:
    files = {
        ".venv/lib/flask.py": FLASK,
        "py/pyvenv.cfg": "",
        "py/lib/web.py": FLASK,
        "node_modules/a.py": FLASK,
    }
    found = look_at(project(tmp_path, files))
    assert found.applications == ()
    assert not found.has_python


def test_what_cannot_be_parsed_is_passed_over(tmp_path: Path) -> None:
    files = {"old.py": "print 'from flask import Flask'\n", "nul.py": "import a\n\0", "main.py": FASTAPI}
    assert first(tmp_path, files).reference == "main:app"


def test_what_runs_only_as_a_script_is_not_meant(tmp_path: Path) -> None:
    files = {"web.py": "from flask import Flask\nif __name__ == '__main__':\n    app = Flask('x')\n"}
    assert look_at(project(tmp_path, files)).applications == ()


def test_modules_that_declare_tasks_are_found(tmp_path: Path) -> None:
    files = {
        "src/shop/__init__.py": "",
        "src/shop/jobs.py": "from coserver import task\n\n@task\ndef a() -> None: ...\n",
        "src/shop/more.py": "import coserver\n\n@coserver.task(retries=1)\nasync def b() -> None: ...\n",
        "src/shop/other.py": "from celery import task\n\n@task\ndef c(): ...\n",
        "tests/test_jobs.py": "from coserver import task\n\n@task\ndef d(): ...\n",
    }
    found = look_at(project(tmp_path, files))
    assert found.tasks == (("shop.jobs", Path("src")), ("shop.more", Path("src")))


def test_nothing_of_the_project_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w').close()\n{FLASK}"
    assert first(tmp_path, {"main.py": source}).reference == "main:app"
    assert not mark.exists()
