"""What a measurement was made on: processor, cores, memory, versions and commit, as flat text.

Knows nothing of what is measured. A figure without these is hearsay.
"""

import os
import platform as python_platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from lakebed import __version__

_PACKAGES: Final = ("ray", "torch", "numpy", "pyarrow", "mlflow", "scikit-learn")


@cache
def machine() -> dict[str, str]:
    """Describe this machine and this code; every value is text, an unknown one is `unknown`."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gib": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}",
        "system": python_platform.platform(terse=True),
        "python": python_platform.python_version(),
        "lakebed": __version__,
        "commit": code_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


@cache
def code_version() -> str:
    """Commit of the running code with `-dirty` for local changes, or the package version outside a checkout."""
    source = Path(__file__).resolve().parents[1]
    commit = _git(source, "rev-parse", "--short=12", "HEAD")
    if commit is None or _git(source, "ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return __version__
    return f"{commit}-dirty" if _git(source, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else python_platform.processor() or python_platform.machine() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
