"""Progress bars. In a module of their own, because rich is slow to import and only a terminal shows them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def fraction() -> Iterator[Callable[[float, str], None]]:
    """A bar of one task; the callback takes the fraction that is done and a description."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("read", total=1.0)
        yield lambda done, what: bar.update(task, completed=done, description=what)


@contextmanager
def counted(what: str, count: int) -> Iterator[Callable[[], None]]:
    """A bar of ``count`` tasks; the callback counts one more. Printed lines appear above the bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=count)
        yield lambda: bar.advance(task)
