"""The device and the number of threads of an alignment, determined once from the settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from register.compute import device, forks
from register.compute.device import CPU


@dataclass(frozen=True)
class ComputePlan:
    """A device, the number of CPU threads that are used with it, and the requested number, if any."""

    device: torch.device
    threads: int
    requested_threads: int | None = None

    @classmethod
    def of(cls, name: str, threads: int | None = None) -> "ComputePlan":
        """The plan for the settings ``device`` and ``threads``.

        Raises ``DeviceError`` where the device is not available, and ``RegisterError`` in a process that was
        forked after one that had computed.
        """
        forks.check()
        return cls._on(device.choose(name), threads)

    @classmethod
    def _on(cls, place: torch.device, threads: int | None) -> "ComputePlan":
        return cls(place, device.thread_count(place, threads), threads)

    @property
    def on_cpu(self) -> "ComputePlan":
        """The plan of the same computation on the CPU."""
        return self._on(CPU, self.requested_threads)

    @property
    def input_device(self) -> torch.device:
        """The device on which images are prepared: a CUDA device, or else the CPU."""
        return self.device if self.device.type == "cuda" else CPU

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute the block with the threads and the device of the plan."""
        with device.using_threads(self.threads, self.device), device.current(self.device):
            yield
