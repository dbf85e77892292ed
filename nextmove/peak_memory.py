"""The most memory that this process has held."""

import resource
from pathlib import Path


def peak_memory() -> int:
    """Bytes."""
    # Not `getrusage`: what it says of a process includes what the one that started it held.
    status = Path("/proc/self/status")
    if not status.exists():  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
