"""The program: its commands, its one place where errors end, its exit codes."""

import sys
from typing import Annotated

import typer

from register import __version__
from register.cli.align import align
from register.cli.plainhelp import GroupedCommand
from register.errors import RegisterError

FAILED, INTERRUPTED = 1, 130

app = typer.Typer(
    name="register",
    help="Align two images of the same thing, and keep the transform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    rich_markup_mode=None,
)
app.command("align", cls=GroupedCommand)(align)


def _version(asked: bool) -> None:
    if asked:
        print(f"register {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)] = False,
) -> None:
    """Align two images of the same thing, and keep the transform."""


def main() -> None:
    """Run the program. An error the user can act on is one line on stderr; a bug shows its traceback."""
    try:
        code = app(standalone_mode=False)  # not standalone: typer returns the code of an Exit, and errors come through to here
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
        raise
    if code == INTERRUPTED:
        _end("interrupted; no file was left half written", INTERRUPTED)
    sys.exit(code or 0)


def _end(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)
