"""The plugin `@generic`: every generic task that this installation can run.

`command` needs POSIX, and `zodb-call` the extra `[zodb]`, which few have; a worker does not provide what it lacks.
"""

import importlib
import importlib.util
import os

_MODULES = ["http_call", "xmlrpc_call"]

if os.name == "posix":
    _MODULES.append("command")
if all(importlib.util.find_spec(name) for name in ("ZODB", "transaction", "zodburi")):
    _MODULES.append("zodb_call")

for _module in _MODULES:
    importlib.import_module(f"coserver.contrib.generic.{_module}")
