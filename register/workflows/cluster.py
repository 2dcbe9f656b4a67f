"""Pairs on a Dask cluster: one pair a task, done again elsewhere when its worker is lost."""

from collections.abc import Iterator
from pathlib import Path

from register.errors import RegisterError
from register.files.remote import is_remote
from register.workflows.batch import PairOutcome, Runner, do
from register.workflows.pairs import Pair
from register.workflows.settings_files import with_files

PATIENCE = 15
"""Seconds to wait for the scheduler."""
RETRIES = 2
"""How often a task whose worker raised is tried again; tasks of lost workers are moved by the scheduler."""


def on_cluster(scheduler: str, output: str, redo: bool = False) -> Runner:
    """The runner that does pairs on the workers of a scheduler, ``tcp://HOST:PORT``; they see the same paths, or files lie at addresses.

    Raises ``RegisterError`` when dask.distributed is not installed or nobody answers.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise RegisterError("--scheduler needs dask.distributed: pip install 'register-cli[dask]'") from None

    def runner(pairs: list[Pair]) -> Iterator[PairOutcome]:
        try:
            client = Client(scheduler, timeout=PATIENCE)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise RegisterError(
                f"--scheduler {scheduler}: nobody answers ({error}); check the address"
            ) from None
        with client:
            target = absolute(output)
            tasks = {
                client.submit(
                    do, _placed(pair), target, redo, key=f"register-{pair.id}", pure=False, retries=RETRIES
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
                client.cancel(list(tasks))  # type: ignore[no-untyped-call]

    return runner


def absolute(name: str) -> str:
    """A path as any machine that shares the storage sees it; an address as it is."""
    return name if is_remote(name) else str(Path(name).absolute())


def _placed(pair: Pair) -> Pair:
    """The pair with absolute paths."""
    chosen = with_files(pair.settings, absolute)
    return Pair(pair.id, absolute(pair.fixed), absolute(pair.moving), chosen)
