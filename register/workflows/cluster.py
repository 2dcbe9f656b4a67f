"""Pairs on a Dask cluster: one task per pair; the task of a lost worker is repeated on another."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from register.errors import RegisterError
from register.files.remote import is_remote
from register.workflows.batch import PairOutcome, Runner, align_pair
from register.workflows.pairs import Pair
from register.workflows.settings_files import with_files

TIMEOUT = 15
"""Seconds to wait for the scheduler."""
RETRIES = 2
"""Retries of a task that raised an exception; the scheduler itself moves tasks of lost workers."""


def on_cluster(scheduler: str, output: str, redo: bool = False) -> Runner:
    """The runner that aligns pairs on the workers of a Dask scheduler, ``tcp://HOST:PORT``.

    All workers must have access to the same paths, unless all files are at remote addresses. Raises
    ``RegisterError`` when dask.distributed is not installed or the scheduler cannot be reached.
    """
    check_installed()

    def runner(pairs: list[Pair]) -> Iterator[PairOutcome]:
        from distributed import as_completed

        with connected(scheduler) as client:
            target = absolute(output)
            tasks = {
                client.submit(
                    align_pair,
                    _with_absolute_paths(pair),
                    target,
                    redo,
                    key=f"register-{pair.id}",
                    pure=False,
                    retries=RETRIES,
                ): pair
                for pair in pairs
            }
            try:
                for future in as_completed(list(tasks)):  # type: ignore[no-untyped-call]
                    pair = tasks[future]
                    if future.status == "error":
                        yield PairOutcome(
                            pair.id,
                            pair.fixed,
                            pair.moving,
                            error=f"its task was lost: {' '.join(str(future.exception()).split())}",
                        )
                    else:
                        yield future.result()
                    future.release()
            finally:
                client.cancel(list(tasks))

    return runner


def check_installed() -> None:
    """Raise ``RegisterError`` where dask.distributed is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise RegisterError("--scheduler needs dask.distributed: pip install 'register-cli[dask]'") from None


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """A client of a Dask scheduler. Raises ``RegisterError`` when it cannot be reached."""
    check_installed()
    from distributed import Client

    try:
        client = Client(scheduler, timeout=TIMEOUT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise RegisterError(
            f"--scheduler {scheduler}: cannot connect to the scheduler ({error}); check the address"
        ) from None
    with client:
        yield client


def absolute(name: str) -> str:
    """The absolute path, valid on all machines that share the storage; an address is returned unchanged."""
    return name if is_remote(name) else str(Path(name).absolute())


def _with_absolute_paths(pair: Pair) -> Pair:
    """The pair with absolute paths."""
    chosen = with_files(pair.settings, absolute)
    return replace(pair, fixed=absolute(pair.fixed), moving=absolute(pair.moving), settings=chosen)
