"""The form of settings: one entry for each field of ``Settings`` that has a meaning for layers."""

from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any, get_type_hints

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, SpinBox

from register import settings
from register.errors import RegisterError
from register.settings import Settings, choices

FIRST = "model", "preset", "fixed_channel", "moving_channel", "allow_flip"
"""Settings that are shown at once, in this order; the others are behind a button."""
BY_FILE = {"fixed_mask", "moving_mask", "split_mask", "landmarks", "landmarks_hold", *settings.FILES_ONLY}
"""Settings that name files or parts of them; layers take their place."""
OF_OUTPUT = "interpolation", "fill"
"""Settings of the output image that matter for the aligned layer."""
MOST = 10**6
"""The upper end of numbers without one."""


def offered() -> list["Field[Any]"]:
    """The settings of the form: ``FIRST``, then the others as the help lists them."""
    every = {
        option.name: option
        for option in fields(Settings)
        if option.name not in BY_FILE
        and (option.metadata["group"] not in (settings.OUTPUT,) or option.name in OF_OUTPUT)
    }
    return [every[name] for name in FIRST] + [x for name, x in every.items() if name not in FIRST]


def entry(option: "Field[Any]") -> Any:
    """The widget of a setting, with its help as tooltip; an empty text is None."""
    kind, bounds = get_type_hints(Settings)[option.name], option.metadata["bounds"]
    common = {"name": option.name, "label": option.name.replace("_", " "), "tooltip": option.metadata["help"]}
    allowed = choices(option)
    if allowed:
        return ComboBox(choices=allowed, value=option.default, **common)
    if kind is bool:
        return CheckBox(value=option.default, text="", **common)
    if kind in (int, float):
        least, most = bounds.get("ge", -MOST), bounds.get("le", MOST)
        number = SpinBox if kind is int else FloatSpinBox
        return number(value=option.default, min=least, max=most, **common)
    return LineEdit(value="" if option.default is None else str(option.default), **common)


def form(some: Iterable["Field[Any]"]) -> Any:
    """A container of the entries of some settings."""
    return Container(widgets=[entry(option) for option in some], labels=True)


def chosen(forms: Iterable[Any]) -> Settings:
    """The settings that forms hold. Raises ``RegisterError`` that names the setting and what is allowed."""
    hints, values = get_type_hints(Settings), {}
    for widget in (widget for one in forms for widget in one):
        value = widget.value
        if isinstance(value, str):
            value = value.strip() or None
        if isinstance(value, str) and hints[widget.name] in (int | None, float | None):
            value = _number(widget.name, value)
        values[widget.name] = value
    values = {name: value for name, value in values.items() if value is not None}
    return settings.check(**values)


def _number(name: str, text: str) -> float:
    """The number of a text. Raises ``RegisterError``."""
    try:
        value = float(text)
    except ValueError:
        raise RegisterError(f"{name} {text!r} is not allowed: a number is needed") from None
    return int(value) if value.is_integer() else value
