"""What `config show` prints."""

from __future__ import annotations

import json

import pytest

from coserver.config import Site
from coserver.config.show import as_json, as_text
from tests.config.sites import Desk
from tests.config.test_load import SHOP


@pytest.fixture
def site(desk: Desk) -> Site:
    desk.environ = {"DATABASE_URL": "postgresql://ann:s3cret@h/d", "COSERVER_CFG__SERVICE__WEB__NICE": "3"}
    return desk.load(SHOP)


def test_each_value_stands_beside_its_origin(site: Site) -> None:
    lines = [" ".join(line.split()) for line in as_text(site).splitlines()]
    for line in (
        'name = "shop" # coserver.toml:2',
        'store = "postgresql://ann:***@h/d" # coserver.toml:3 via ${DATABASE_URL}',
        "processes = 2 # coserver.toml:24",
        "nice = 3 # COSERVER_CFG__SERVICE__WEB__NICE",
        "autostart = true # default",
        "# user is not set # default: the user who runs coserver",
        'restart.backoff = "100ms..1m" # coserver.toml:28',
        'env.KEY = "***" # coserver.toml:38',
    ):
        assert line in lines


def test_what_is_printed_is_toml_that_means_the_same_site(desk: Desk) -> None:
    site = desk.load(SHOP.replace("KEY", "CASE"))
    for stated in (True, False):
        again = desk.load(path=desk.write(as_text(site, stated=stated), "again.toml"))
        assert (again.services, again.store, again.app) == (site.services, site.store, site.app)


def test_only_what_is_stated_can_be_asked_for(site: Site) -> None:
    assert "default" not in as_text(site, stated=True).replace("defaults", "")
    stated = as_json(site, stated=True)["settings"]
    assert isinstance(stated, dict)
    assert all(setting["origin"]["kind"] != "default" for setting in stated.values())
    assert stated.keys() < site.settings.keys()


def test_the_json_form_has_every_key_with_value_and_origin(site: Site) -> None:
    shown = json.loads(json.dumps(as_json(site)))
    assert shown["file"] == str(site.file)
    assert shown["settings"].keys() == site.settings.keys()
    assert shown["settings"]["site.store"] == {
        "value": "postgresql://ann:***@h/d",
        "origin": {"kind": "file", "file": "coserver.toml", "line": 3, "via": ["DATABASE_URL"]},
    }
    assert shown["settings"]["service.web.nice"]["origin"] == {
        "kind": "environment",
        "variable": "COSERVER_CFG__SERVICE__WEB__NICE",
    }
    assert shown["settings"]["service.web.user"] == {"value": None, "origin": {"kind": "default"}}


def test_no_secret_is_in_any_view(site: Site) -> None:
    for view in (as_text(site), json.dumps(as_json(site))):
        assert "s3cret" not in view
        assert "VALUE" not in view
