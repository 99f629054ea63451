"""A policy in a file of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

from plughost import ConfigError, Fault, faults_of
from pydantic import ValidationError

from plughost_rbac._config import PolicyConfig


def read_policy(path: Path) -> PolicyConfig:
    """The policy in a TOML file.

    Raises:
        ConfigError: It cannot be read, or names every fault in it.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Fault("", f"cannot be read: {error}")], source=str(path)) from error
    try:
        return PolicyConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(faults_of(error, PolicyConfig), source=str(path)) from None
