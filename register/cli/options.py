"""Command-line options made from ``register.settings``, which defines names, help, bounds and defaults."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, get_type_hints

import typer

from register.cli.arguments import one_of, wrong_usage
from register.settings import Settings, check, choices


def with_settings(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter ``settings`` by one option for every setting but some."""
    return lambda command: _with(command, [x for x in fields(Settings) if x.name not in without])


def _with(command: Callable[..., None], chosen_fields: list[Field[Any]]) -> Callable[..., None]:
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        with wrong_usage():
            chosen = check(**{option.name: values.pop(option.name) for option in chosen_fields})
        command(settings=chosen, **values)

    types = get_type_hints(Settings)
    options = [
        inspect.Parameter(
            x.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=x.default,
            annotation=Annotated[types[x.name], _option(x, types[x.name])],
        )
        for x in chosen_fields
    ]
    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values() if p.name != "settings"]
    wrapped.__signature__ = inspect.Signature([*kept[:2], *options, *kept[2:]])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*kept, *options]}
    return wrapped


def _option(option: Field[Any], kind: Any) -> Any:
    """The typer option of one setting; one that may be switched off gets a name for that too."""
    bounds, name = option.metadata["bounds"], option.name.replace("_", "-")
    named = choices(option) if option.metadata["choices"] else ()
    either = kind == bool | None or option.default is True
    return typer.Option(
        f"--{name}/--no-{name}" if either else f"--{name}",
        help=option.metadata["help"],
        rich_help_panel=option.metadata["group"],
        show_default=option.default is not None,
        min=bounds.get("ge"),
        max=bounds.get("le"),
        metavar=one_of(named) if named else None,
    )
