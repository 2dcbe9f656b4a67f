"""Reference pages made from the code: commands, settings, registries, public names, the JSON Schema.

Each function returns one page as Markdown. ``docs/hooks.py`` adds them to the site when it is built, so that
a page cannot differ from the program.
"""

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from typer import Context
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

import register
from register import registries
from register.cli.main import COMMANDS, function_of
from register.settings import Settings, choices

ROOT = Path(__file__).parent.parent


def pages() -> dict[str, str]:
    """Every generated page: its path below ``docs/`` and its Markdown."""
    return {
        "reference/command-line.md": command_line(),
        "reference/settings.md": settings(),
        "reference/registries.md": registry_tables(),
        "reference/python.md": python(),
        "reference/records.md": records(),
        "reference/schema.md": schema(),
        "reference/modules.md": modules(),
    }


# --- command line ---


def commands() -> dict[str, Callable[..., None]]:
    """The functions behind the commands, by name, in the order of the help."""
    return {name: function_of(name) for name in COMMANDS}


def parameters(command: Callable[..., None]) -> Iterator[tuple[inspect.Parameter, Any, ParameterInfo]]:
    """A command's parameters with their types and what typer is given about them."""
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        if hints.get(parameter.name) is Context:
            continue  # typer's own, no option
        kind = parameter.annotation if not isinstance(parameter.annotation, str) else hints[parameter.name]
        assert get_origin(kind) is Annotated, f"{command.__name__}: {parameter.name} has no typer.Option"
        base, *extra = get_args(kind)
        yield parameter, base, next(x for x in extra if isinstance(x, ParameterInfo))


def option_names(parameter: inspect.Parameter, kind: Any, info: ParameterInfo) -> list[str]:
    """What is typed on the command line: ``-o``, ``--output``, ``--pyramid/--no-pyramid``."""
    first = [info.default] if isinstance(info.default, str) else []  # where typer keeps it, in an annotation
    name = parameter.name.replace("_", "-")
    usual = f"--{name}/--no-{name}" if _bare(kind) is bool else f"--{name}"
    return [*first, *(info.param_decls or ())] or [usual]


def command_line() -> str:
    """The page of all commands and their options."""
    lines = [
        "# Command line",
        "",
        "`python -m register` is the same program as `register`. `-h` or `--help` after a command shows its "
        "options; `register --version` shows the version. Results go to files, progress and messages to the "
        "terminal; with `--json` one JSON object is written to standard output and nothing else. "
        "[Exit codes](exit-codes.md) are the same for all commands.",
        "",
        "This page is generated from the program.",
    ]
    for name, command in commands().items():
        lines += ["", f"## register {name}", "", inspect.cleandoc(command.__doc__ or ""), ""]
        lines += _usage(name, command)
        lines += _option_tables(command)
    return "\n".join(lines) + "\n"


def _usage(name: str, command: Callable[..., None]) -> list[str]:
    arguments = [(p, i) for p, _, i in parameters(command) if isinstance(i, ArgumentInfo)]
    words = " ".join(info.metavar or parameter.name.upper() for parameter, info in arguments)
    lines = ["```text", f"register {name} {words} [OPTIONS]".replace("  ", " "), "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "| --- | --- |"]
        lines += [f"| `{i.metavar or p.name.upper()}` | {_cell(i.help)} |" for p, i in arguments]
        lines.append("")
    return lines


def _option_tables(command: Callable[..., None]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for parameter, kind, info in parameters(command):
        if isinstance(info, OptionInfo) and not info.hidden:
            row = _option_row(parameter, kind, info)
            groups.setdefault(info.rich_help_panel or "Options", []).append(row)
    lines = []
    for title, rows in groups.items():
        lines += [f"**{title}**", "", "| option | value | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [*rows, ""]
    return lines


def _option_row(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> str:
    names = ", ".join(f"`{name}`" for name in option_names(parameter, kind, info))
    values = _values(kind, info.min, info.max, info.metavar)
    default = parameter.default if parameter.default is not inspect.Parameter.empty else ...
    return f"| {names} | {values} | {_default(default)} | {_cell(info.help)} |"


def _values(kind: Any, least: float | None, most: float | None, metavar: str | None) -> str:
    """Which values an option takes: its choices, or its type and bounds."""
    allowed = _literals(kind)
    if allowed:
        return ", ".join(f"`{value}`" for value in allowed)
    if metavar and "|" in metavar:
        return ", ".join(f"`{value}`" for value in metavar.strip("<>").split("|"))
    if metavar:
        return f"`{_cell(metavar)}`"
    if _bare(kind) is bool:
        return ""
    text = {int: "whole number", float: "number", Path: "path"}.get(_bare(kind), "text")
    if least is not None:
        text += f" ≥ {least:g}"
    if most is not None:
        text += f", ≤ {most:g}" if least is not None else f" ≤ {most:g}"
    return text


def _literals(kind: Any) -> list[str]:
    """The choices of a Literal or of an enumeration, also of one that may be None."""
    found: list[str] = []
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            found += [str(value) for value in get_args(part)]
        elif inspect.isclass(part) and hasattr(part, "__members__"):
            found += [str(member.value) for member in part.__members__.values()]
    return found


def _bare(kind: Any) -> Any:
    """The type without ``| None`` and without ``list``."""
    parts = [part for part in get_args(kind) if part is not type(None)]
    return _bare(parts[0]) if parts else kind


def _default(value: Any) -> str:
    if value is ...:
        return "required"
    if value is None or value is False or value == ():
        return ""
    return "on" if value is True else f"`{value}`"


def _cell(text: str | None) -> str:
    """Text on one line of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


# --- settings ---


def settings() -> str:
    """The page of all settings."""
    lines = [
        "# Settings",
        "",
        "Every option of an alignment once, as `register.settings.Settings` holds it. On the command line a "
        "setting `patch_size` is `--patch-size`; in Python it is a keyword argument of `register.align`; in "
        "a table of `register batch` it is a column. `transform.json` records all of them in "
        "`provenance.settings`.",
        "",
        "This page is generated from the program.",
    ]
    groups: dict[str, list[Field[Any]]] = {}
    for option in fields(Settings):
        groups.setdefault(option.metadata["group"], []).append(option)
    for group, options in groups.items():
        lines += [
            "",
            f"## {group}",
            "",
            "| setting | value | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        lines += [_setting_row(option) for option in options]
    return "\n".join(lines) + "\n"


def _setting_row(option: Field[Any]) -> str:
    bounds, allowed = option.metadata["bounds"], choices(option)
    if allowed:
        values = ", ".join(f"`{value}`" for value in allowed)
    else:
        kind = _bare(get_type_hints(Settings)[option.name])
        named = {int: "whole number", float: "number", bool: "`true` or `false`"}
        limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        told = [f"{sign} {bounds[name]:g}" for name, sign in limits.items() if name in bounds]
        values = " ".join([named.get(kind, "text"), ", ".join(told)]).strip()
    default = "" if option.default in (None, MISSING) else f"`{str(option.default).lower()}`"
    return f"| `{option.name}` | {values} | {default} | {_cell(option.metadata['help'])} |"


# --- registries ---

ABOUT = {
    "SIMILARITIES": "Chosen with `--metric`.",
    "MODELS": "Chosen with `--model`; `--model local` blends one affine map per patch.",
    "READERS": "Chosen by the file itself: the first reader that recognises it.",
    "STARTS": "They propose initial maps; the engine refines and verifies them.",
    "EXPORTS": "Chosen with `register export --to`.",
}


def all_registries() -> dict[str, registries.Registry]:
    """The registries by the name of their constant."""
    found = {
        name: value for name, value in vars(registries).items() if isinstance(value, registries.Registry)
    }
    return {name: value for name, value in found.items() if value in registries.ALL.values()}


def registry_tables() -> str:
    """The page of all registries and what is in them."""
    lines = [
        "# Registries",
        "",
        "What there can be several of is registered by name: one record in one file, and one line in "
        "`register/registries/__init__.py`. Another package adds a record by an entry point of the group "
        "named below, a program with `add`. [Contributing](../contributing.md) shows how; [the "
        "records](records.md) are documented with their fields.",
        "",
        "This page is generated from the program.",
    ]
    for constant, registry in all_registries().items():
        lines += ["", f"## {registry.kind.capitalize()}", "", ABOUT.get(constant, "")]
        where = f"Entry points: `{registry.group}`. " if registry.group else "No entry points. "
        lines += ["", f"{where}In Python: `register.registries.{constant}`.", ""]
        lines += ["| name | what it is |", "| --- | --- |"]
        lines += [f"| `{name}` | {_cell(registry.summary(name))} |" for name in registry.names()]
    return "\n".join(lines) + "\n"


# --- Python ---


def python() -> str:
    """The page of the public names, filled in by mkdocstrings."""
    lines = [
        "# Python",
        "",
        "The names below, and `register.settings.Settings`, are the public interface: they keep their "
        "meaning between versions. Everything else in the package may change. [The "
        "tutorial](../tutorials/python.md) shows them in use.",
        "",
        "Points are `(x, y)` in pixels, x to the right, y down, counted from 0, integers at pixel centres. "
        "Images are arrays `(h, w)` or `(h, w, c)`, or PyTorch tensors `(h, w)` or `(c, h, w)`. A transform "
        "maps a point of the fixed image to a point of the moving image.",
        "",
        "| name | what it is |",
        "| --- | --- |",
    ]
    names = sorted((name for name in register.__all__ if not name.startswith("__")), key=str.lower)
    lines += [f"| [`register.{name}`](#{_home(name)}) | {_first_sentence(name)} |" for name in names]
    lines += ["| `register.__version__` | The version, a text. |"]
    for name in names:
        lines += ["", f"::: {_home(name)}"]
    return "\n".join(lines) + "\n"


def _home(name: str) -> str:
    """Where a public name is defined, as ``register.api.align``."""
    value = getattr(register, name)
    return f"{value.__module__}.{value.__qualname__}"


def _first_sentence(name: str) -> str:
    text = " ".join((inspect.getdoc(getattr(register, name)) or "").split())
    return _cell(text.split(". ")[0].rstrip(".") + "." if text else "")


def record_types() -> dict[str, type]:
    """The type of the records of each registry, by the registry's kind."""
    found = {}
    for registry in all_registries().values():
        found[registry.kind] = type(registry.get(registry.names()[0]))
    return found


def records() -> str:
    """The page of the records that plug-ins make, filled in by mkdocstrings."""
    lines = [
        "# Plug-in records",
        "",
        "A similarity, a global model, an image reader, a start finder and an export format are each one "
        "record. [Contributing](../contributing.md) has a complete example of each. These types may change "
        "between minor versions; the changelog says how.",
        "",
        "::: register.registries.registry.Registry",
    ]
    for kind, record in record_types().items():
        lines += ["", f"## {kind.capitalize()}", "", f"::: {record.__module__}.{record.__qualname__}"]
    return "\n".join(lines) + "\n"


# --- file format ---


def schema() -> str:
    """The page that shows the JSON Schemas of ``transform.json`` and ``group.json``."""
    return (
        _schema("transform", "[transform.json](transform-format.md) explains the keys.")
        + "\n"
        + _schema("group", "A [set of images](../how-to/sets-of-images.md) has one such file.")
    )


def _schema(name: str, more: str) -> str:
    """A JSON Schema with its heading."""
    path = next((ROOT / "register").rglob(f"{name}.schema.json"))
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=2, ensure_ascii=False)
    return "\n".join(
        [
            f"# JSON Schema of {name}.json",
            "",
            "The schema that the reader checks files against. It is installed with the package as "
            f"`{path.relative_to(ROOT)}`. {more}",
            "",
            "```json",
            text,
            "```",
            "",
        ]
    )


# --- modules ---


def modules() -> str:
    """The page of all modules with the first sentence of their docstrings."""
    lines = [
        "# Modules",
        "",
        "Every module of the package and what it is for: the first sentence of its docstring. Only the names "
        "on [Python](python.md) are public; [Architecture](../explanation/architecture.md) explains the "
        "packages.",
        "",
        "This page is generated from the program.",
    ]
    package = ROOT / "register"
    folders = [package, *sorted(path.parent for path in package.rglob("*/__init__.py"))]
    for folder in folders:
        name = ".".join(folder.relative_to(ROOT).parts)
        lines += ["", f"## {name}", "", _purpose(folder / "__init__.py"), ""]
        rows = [f"| `{path.stem}` | {_cell(_purpose(path))} |" for path in sorted(folder.glob("[!_]*.py"))]
        lines += ["| module | purpose |", "| --- | --- |", *rows] if rows else []
    return "\n".join(lines) + "\n"


def _purpose(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
    return re.split(r"(?<=[.:]) (?=[A-Z])", text)[0]
