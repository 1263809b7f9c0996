"""Virtual environments for peers that need other packages than lakebed, kept in a cache folder.

Each is made on first use from a file of pinned requirements, and anew when that file has changed.
"""

import os
import subprocess
import sys
from pathlib import Path


class PeerMissingError(RuntimeError):
    """The peer is not installed and cannot be, for want of a network for example."""


def environment(name: str, requirements: Path) -> Path:
    """Return a peer's virtual environment, made if need be; raises PeerMissingError with pip's last words."""
    folder = cache_folder() / name
    done = folder / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return folder
    print(f"installing {name} into {folder}")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(requirements)])
    done.write_text(wanted, encoding="utf-8")
    return folder


def cache_folder() -> Path:
    """Where benchmarks keep what they need not make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakebed" / "benchmarks"


def variables() -> dict[str, str]:
    """This process's environment without what is meant for our own libraries; nothing phones home."""
    ours = ("PYTHON", "OMP_", "TOKENIZERS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissingError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-1000:]}")
