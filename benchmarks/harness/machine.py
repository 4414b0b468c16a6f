"""Name the machine that a figure was measured on."""

import datetime as dt
import os
import platform
import resource
import sys
from pathlib import Path

import torch


def describe_machine() -> dict[str, str]:
    """Return the processor, its instructions, accelerator, versions and date, for the head of a result.

    Processors of one name may have other instructions, by which the same seed comes to other digits.
    """
    return {
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        "processor": f"{_processor()} ({os.cpu_count()} cores)",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
    }


def peak_memory(device: torch.device) -> float:
    """Return the most memory that this process has held, in MiB: the GPU's where there is one, else the host's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
