"""The most memory that this process has held: in main memory and on a graphics processor."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_GB = 1e9


def forget_peaks() -> None:
    """Measure peaks from here on, where the system can forget earlier ones (Linux)."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gb() -> float:
    """Return the largest resident memory since ``forget_peaks``, in units of 1e9 bytes.

    Where the system does not tell, the largest since the process began.
    """
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _GB
    # In bytes on macOS, in kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GB


def peak_device_memory_gb() -> float | None:
    """Return the largest memory of tensors on the graphics processor; None without one."""
    return torch.cuda.max_memory_allocated() / _GB if torch.cuda.is_available() else None
