"""What a benchmark ran on, to be written above its figures."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import psutil

_LIBRARIES = ("tensorflow", "tensorflow-recommenders", "implicit", "scikit-learn", "numpy", "scipy")


def machine() -> dict[str, str]:
    """Return what the figures depend on, by name."""
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": _processor(),
        "cores": str(cores),
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
    }


def machine_lines() -> list[str]:
    """Return the same as Markdown list items."""
    return [f"- {name}: {value}" for name, value in machine().items()]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            names = (
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            )
            return next(names, platform.machine())
    except OSError:
        return platform.machine()
