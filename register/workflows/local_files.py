"""Local paths of files: those at remote addresses are copied into a folder that is removed at the end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from register.errors import FileError
from register.files import remote
from register.files.scratch import scratch_folder
from register.settings import Settings
from register.workflows.job import Job
from register.workflows.settings_files import with_files


class LocalFiles:
    """Gives the local path of each file; copies of remote ones lie in ``place``, each in its own folder."""

    def __init__(self, place: Path) -> None:
        self.place, self._numbers = place, count()

    def path(self, name: str | Path) -> Path:
        """The path of a local file, or of a copy of a remote one. Raises ``FileError``."""
        if not remote.is_remote(str(name)):
            return Path(name)
        return remote.fetch(str(name), self.folder())

    def folder(self) -> Path:
        """A new empty folder that is removed at the end."""
        folder = self.place / f"file{next(self._numbers)}"
        folder.mkdir()
        return folder

    def settings(self, chosen: Settings) -> Settings:
        """The settings with local copies of remote masks, landmarks and initial maps."""
        return with_files(chosen, lambda name: str(self.path(name)))


@contextmanager
def local_files() -> Iterator[LocalFiles]:
    """``LocalFiles`` in a temporary folder."""
    with scratch_folder() as place:
        yield LocalFiles(Path(place))


@contextmanager
def job_at(fixed: str, moving: str, output: str, chosen: Settings, *, overwrite: bool) -> Iterator[Job]:
    """The job of a pair of which any file, and the folder for the results, may be at a remote address.

    ``stored`` moves the results to a remote folder. Raises ``FileError`` for a file that cannot be copied,
    and for a remote folder that holds a transform already, unless with ``overwrite``.
    """
    away = remote.is_remote(output)
    if away and not overwrite and remote.exists(f"{output}/transform.json"):
        raise FileError(output, "already holds transform.json", "use --overwrite or another --output")
    with local_files() as local:
        folder = local.folder() if away else Path(output)
        names = [name if remote.is_remote(name) else str(Path(name)) for name in (fixed, moving)]
        files = local.path(names[0]), local.path(names[1])
        yield Job(*files, folder, local.settings(chosen), overwrite, (names[0], names[1]), chosen)


def stored(files: Mapping[str, Path | str], job: Job, output: str) -> Mapping[str, Path | str]:
    """The files of a finished job by role, moved to the address of the folder if that is remote."""
    if not remote.is_remote(output):
        return files
    remote.store(job.output, output, last="transform.json")
    return {role: f"{output.rstrip('/')}/{Path(path).name}" for role, path in files.items()}
