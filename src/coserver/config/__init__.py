"""coserver.toml → frozen records: found, merged, substituted and checked, with every problem at once.

`load` is the way in; `Site` what it returns; `ConfigError` what it raises.
"""

from coserver.config.load import load
from coserver.config.origin import ConfigError, Origin, Problem
from coserver.config.records import (
    AppConfig,
    ControlConfig,
    NodeConfig,
    OutputPolicy,
    RetentionConfig,
    ServiceConfig,
    Setting,
    Site,
    StopPolicy,
)

__all__ = [
    "AppConfig",
    "ConfigError",
    "ControlConfig",
    "NodeConfig",
    "Origin",
    "OutputPolicy",
    "Problem",
    "RetentionConfig",
    "ServiceConfig",
    "Setting",
    "Site",
    "StopPolicy",
    "load",
]
