"""Command-line options from the settings: each option's name, help, bounds and default have one home, ``register.settings``."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import annotated_types
import typer
from pydantic.fields import FieldInfo

from register.errors import RegisterError
from register.settings import Settings, check


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``settings`` by one option for every setting."""
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        try:
            chosen = check(**{name: values.pop(name) for name in Settings.model_fields})
        except RegisterError as error:
            raise typer.BadParameter(str(error)) from None
        command(settings=chosen, **values)

    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[field.annotation, _option(name, field)])
        for name, field in Settings.model_fields.items()
    ]
    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values() if p.name != "settings"]
    wrapped.__signature__ = inspect.Signature([*kept[:2], *options, *kept[2:]])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*kept, *options]}
    return wrapped


def _option(name: str, field: FieldInfo) -> Any:
    """The typer option of one setting."""
    low = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    high = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=field.description,
        rich_help_panel=str(extra["group"]),
        show_default=field.default is not None,
        min=low,  # type: ignore[arg-type]
        max=high,  # type: ignore[arg-type]
    )
