"""The exceptions and the warning of the package. A message states what is wrong, and what to do."""

OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Insufficient memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
)
"""Texts in errors of PyTorch, OpenCV, CUDA, the library loader and Python that mean that memory ran out."""


class RegisterError(Exception):
    """An error that the user can correct; the command line prints it as one line and exits with 1."""


class FileError(RegisterError):
    """A file cannot be read, written or understood. The message opens with its path."""

    def __init__(self, path: object, problem: str, advice: str = "") -> None:
        super().__init__(f"{path}: {problem}" + (f"; {advice}" if advice else ""))
        self.path = str(path)


class OptionError(FileError):
    """An option means nothing for a file; the command line exits with 2, as for all wrong usage."""


class AlignmentError(RegisterError):
    """The images cannot be aligned: they do not overlap, one has no texture, or the optimisation diverged.

    ``image`` is ``fixed`` or ``moving`` when the error concerns only that image.
    """

    def __init__(self, message: str, image: str | None = None) -> None:
        super().__init__(message if image is None else f"the {image} image {message}")
        self.image, self.message = image, message


class TransformError(RegisterError):
    """A transform is not valid: a wrong number of parameters, a value that is not finite, or a fold."""


class RegisterWarning(UserWarning):
    """The program did not do exactly what was requested, such as use a device; the result is valid."""


class DeviceError(RegisterError):
    """The requested device is not available."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
