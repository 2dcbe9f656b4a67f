"""``register info FILE...``."""

import sys
from typing import Annotated

import typer

from register.cli.arguments import AsJson, Debug
from register.cli.output import print_json, print_values
from register.errors import RegisterError

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Images or transforms: paths or addresses.", show_default=False),
]


def info(files: Files, as_json: AsJson = False, debug: Debug = False) -> None:
    """Describe images and transforms."""
    from register.workflows.info import describe
    from register.workflows.local_files import local_files

    found, errors = [], []
    for name in files:
        try:
            with local_files() as local:
                found.append(describe(local.path(name)) | {"path": name})
        except RegisterError as error:
            errors.append(error)
    for earlier in errors[:-1]:
        print(f"error: {earlier}", file=sys.stderr)
    if as_json:
        print_json({"files": found})
    else:
        for values in found:
            print_values({k: v for k, v in values.items() if v not in (None, [], (), {})}, as_json=False)
    if errors:
        raise errors[-1]
