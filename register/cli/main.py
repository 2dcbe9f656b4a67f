"""The program: its commands, its one place where errors end, its exit codes."""

import io
import logging
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from register._version import __version__
from register.cli.plain_help import GroupedCommand
from register.cli.startup import quickly
from register.errors import RegisterError, says_no_memory

FAILED, INTERRUPTED = 1, 130

COMMANDS = (
    "align",
    "batch",
    "apply",
    "points",
    "invert",
    "compose",
    "export",
    "evaluate",
    "report",
    "info",
    "doctor",
)
"""Each is a function in the module of its name, imported when it is needed."""


def app_for(arguments: list[str]) -> typer.Typer:
    """The program with the command that the arguments name, or with all commands when they name none."""
    app = typer.Typer(
        name="register",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        rich_markup_mode=None,
    )
    app.callback()(program)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in COMMANDS:
        if named not in COMMANDS or name == named:
            command = getattr(import_module(f"register.cli.{name}"), name)
            app.command(name, cls=GroupedCommand)(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        print(f"register {__version__}")
        raise typer.Exit


def program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Align two images of the same thing, and keep the transform."""


def main() -> None:
    """Run the program. An error the user can act on is one line on stderr; a bug shows its traceback."""
    logging.getLogger("tifffile").setLevel(
        logging.CRITICAL
    )  # what is wrong with a file is said once, in our own words
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # job schedulers send it before they kill; it ends things as Ctrl-C does
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what a terminal cannot show
    try:
        with quickly() as end:
            code = app_for(sys.argv[1:])(
                standalone_mode=False
            )  # not standalone: typer returns the code of an Exit, and errors come through to here
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except RegisterError as error:
        if "--debug" in sys.argv:
            raise
        _end(f"error: {' '.join(str(error).split())}", FAILED)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, as typer tells it
            error.show()
            sys.exit(error.exit_code)
        line = _of_the_machine(error)
        if line is None or "--debug" in sys.argv:
            raise
        _end(line, FAILED)
    if code == INTERRUPTED:
        _end("interrupted; no file was left half written", INTERRUPTED)
    end.code = code or 0
    sys.exit(end.code)


def _of_the_machine(error: Exception) -> str | None:
    """The line for an error that the machine is to blame for, and not the program."""
    if says_no_memory(error):
        return (
            "error: out of memory; use a smaller --max-size, fewer --workers or a coarser level of the images"
        )
    if isinstance(error, OSError):
        return f"error: {error.filename or 'standard output'}: cannot be used ({error.strerror or error}); check the disk and your rights there"
    return None


def _end(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)
