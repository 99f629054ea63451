"""The plugin's config: what it takes, and how it refuses."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from plughost_testing._subject import Subject

UNKNOWN = "no_such_key"
JUNK: tuple[Any, ...] = (object(), -1, "\x00 no such value", [[]], {"no such key": None})
"""Values of which a field that takes not just anything refuses some."""


async def refuses_bad_config(subject: Subject) -> None:
    """The config takes what is valid, and refuses unknown and invalid values with a message that names the field."""
    model = subject.plugin_class.config_type
    model.model_validate(dict(subject.config))
    _refused(subject, UNKNOWN, 1)
    for field, values in subject.invalid.items():
        for value in values:
            assert _refused(subject, field, value), f"{field} = {value!r} is accepted"
    for field in model.model_fields:
        if field not in subject.free:
            refused = [value for value in JUNK if _refused(subject, field, value)]
            assert refused, f"{field} takes any value; narrow its type, or name it in `free`"


def _refused(subject: Subject, field: str, value: Any) -> bool:
    """Whether a value is refused; how it is refused must name the field."""
    try:
        subject.plugin_class.config_type.model_validate({**subject.config, field: value})
    except ValidationError as error:
        text = str(error.errors(include_input=False, include_url=False, include_context=False))
        assert field in text, f"{field} = {value!r} is refused without naming the field: {text}"
        return True
    assert field != UNKNOWN, "an unknown key is accepted; derive the config from PluginConfig"
    return False
