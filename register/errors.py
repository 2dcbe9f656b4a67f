"""The one family of errors. A message says what is wrong, the value, and what to do about it."""

NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Insufficient memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
)
"""How PyTorch, OpenCV, CUDA, the loader of libraries and Python say so when it is no ``MemoryError``."""


class RegisterError(Exception):
    """Something the user can act on; the command line prints it as one line and exits with 1."""


class FileError(RegisterError):
    """A file cannot be read, written or understood. The message opens with its path."""

    def __init__(self, path: object, problem: str, advice: str = "") -> None:
        super().__init__(f"{path}: {problem}" + (f"; {advice}" if advice else ""))
        self.path = str(path)


class AlignmentError(RegisterError):
    """The two images give no alignment: nothing overlaps, nothing to see, or parameters ran away.

    ``image`` is ``fixed`` or ``moving`` when one of them alone is to blame.
    """

    def __init__(self, message: str, image: str | None = None) -> None:
        super().__init__(message if image is None else f"the {image} image {message}")
        self.image, self.message = image, message


class TransformError(RegisterError):
    """A transform breaks its own law: a wrong count, a number that is not finite, a fold."""


class RegisterWarning(UserWarning):
    """The program continued in another way than it was asked to; the result is valid."""


class DeviceError(RegisterError):
    """The device that was asked for is not there."""


def says_no_memory(error: BaseException) -> bool:
    """Whether an error, whoever raised it, says that there was no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
