"""The command-line program: its commands, the handling of errors, and the exit codes."""

import io
import logging
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from register._version import __version__
from register.cli.plain_help import GroupedCommand
from register.cli.startup import configured_process
from register.errors import OptionError, RegisterError, is_out_of_memory

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

COMMANDS = {
    "align": "Align MOVING to FIXED.",
    "batch": "Align many pairs, each into a folder of its own, and write a table of all.",
    "movie": "Correct the motion of a movie: align its frames to one reference.",
    "group": "Bring a set of images into one common frame: slides, rounds, serial sections.",
    "apply": "Resample other images by a saved transform.",
    "merge": "Write the channels of aligned images into one file, on the grid of their fixed image.",
    "points": "Map points from the fixed image to the moving one, into a file of the same kind.",
    "invert": "Write the inverse of a transform.",
    "compose": "Write the composition of two transforms, A to B and B to C.",
    "export": "Write a transform in another program's format.",
    "evaluate": "Measure landmark errors before and after: TRE, rTRE and robustness.",
    "report": "Draw the report of a finished alignment again, or an index of many.",
    "view": "Open a result in napari where it is installed, else its report in the browser.",
    "info": "Describe images and transforms.",
    "doctor": "Report versions, devices, codecs and plug-ins, what is missing and how to get it.",
}
"""The commands and the first lines of their help. Each is a function in the module of its name."""


def app_for(arguments: list[str]) -> typer.Typer:
    """The program with the command that the arguments name.

    Without a command, all commands are listed with their summaries, and none of their modules is imported.
    """
    app = typer.Typer(
        name="register",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        rich_markup_mode=None,
    )
    app.callback()(program)
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name in COMMANDS:
        app.command(name, cls=GroupedCommand)(function_of(name))
        return app
    for other, summary in COMMANDS.items():
        app.command(other, help=summary)(lambda: None)
    return app


def function_of(command: str) -> Callable[..., None]:
    """The function of a command, imported when it is needed."""
    return getattr(import_module(f"register.cli.{command}"), command)


def _version(asked: bool) -> None:
    if asked:
        print(f"register {__version__}")
        raise typer.Exit


def program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Align two images of the same object, and save the transform."""


def main() -> None:
    """Run the program. An error that the user can act on is one line on stderr; a bug shows its traceback."""
    _prepare_process()
    try:
        with configured_process():
            # not standalone: typer returns the code of an Exit and lets exceptions pass
            sys.argv[1:] = spelled_out(sys.argv[1:])
            code = app_for(sys.argv[1:])(standalone_mode=False)
            if sys.stdout is not None:  # None where the program was started with a closed standard output
                sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        code = _report_error(error)
    if code == INTERRUPTED:
        print("interrupted; no incomplete file was left", file=sys.stderr)
    sys.exit(code or 0)


def spelled_out(arguments: list[str]) -> list[str]:
    """The arguments with ``--pyramid pages`` as ``--pyramid-pages``, because ``--pyramid`` takes no value."""
    made: list[str] = []
    for argument in arguments:
        if argument == "pages" and made[-1:] == ["--pyramid"]:
            made[-1] = "--pyramid-pages"
        else:
            made.append("--pyramid-pages" if argument == "--pyramid=pages" else argument)
    return made


def _prepare_process() -> None:
    """Prepare logging, signals and output streams."""
    # tifffile's own messages: what is wrong with a file is reported once, by an exception
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    # job schedulers send SIGTERM before they kill a process; it ends the program as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hang_up = getattr(signal, "SIGHUP", None)  # of a closed terminal; ``nohup`` has it ignored
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        signal.signal(hang_up, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold bytes that are not UTF-8


def _report_error(error: Exception) -> int:
    """Print an exception as one line on stderr and return the exit code; bugs are raised again."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's exceptions for wrong usage
        error.show()
        return int(error.exit_code)
    line = _message(error)
    if line is None or "--debug" in sys.argv:
        raise error
    print(f"error: {line}", file=sys.stderr)
    return WRONG_USAGE if isinstance(error, OptionError) else FAILED


def _message(error: Exception) -> str | None:
    """The message of an error that the user can act on; None for a bug."""
    if isinstance(error, RegisterError):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "out of memory; use a smaller --max-size, fewer --workers or a coarser level of the images"
    if isinstance(error, OSError):
        reason = error.strerror or error
        place = error.filename or "standard output"
        return f"{place}: cannot be used ({reason}); check the disk and your permissions there"
    return None
