"""Wheels, this package's and made-up ones, and their installation without dependencies into a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(folder: Path, what: str = "wheel") -> Path:
    """Builds this package's wheel or sdist into a folder."""
    command = [sys.executable, "-m", "build", f"--{what}", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("lightning_advdrop-*.whl" if what == "wheel" else "*.tar.gz"))


def with_a_lightning_command(folder: Path, name: str) -> Path:
    """Writes the wheel of a distribution whose module has a command `lightning`, which prints its arguments."""
    information = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": f"import sys\n\n\ndef main():\n    print('{name} got', *sys.argv[1:])\n    return 3\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": f"[console_scripts]\nlightning = {name}:main\n",
    }
    files[f"{information}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{information}/RECORD"])
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


class Prefix:
    """A folder into which wheels are installed, with their scripts."""

    def __init__(self, folder: Path) -> None:
        scheme = {name: str(folder) for name in ("base", "platbase")}
        self.folder = folder
        self.scripts = Path(sysconfig.get_path("scripts", "posix_prefix", scheme))
        self.modules = Path(sysconfig.get_path("purelib", "posix_prefix", scheme))

    def install(self, *wheels: Path) -> None:
        """Installs wheels, one after the other as a user does."""
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
        for wheel in wheels:
            subprocess.run([*command, "--prefix", str(self.folder), str(wheel)], check=True, capture_output=True)

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs an installed script; what is not in the folder comes from this process's environment."""
        hidden = {"PYTHONPATH", "LIGHTNING_ADVDROP_TOLD"}
        variables = {name: value for name, value in os.environ.items() if name not in hidden}
        return subprocess.run(
            [str(self.scripts / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or self.folder,
            env={**variables, "PYTHONPATH": str(self.modules)},
        )
