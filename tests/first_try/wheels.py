"""Tables that packages ship, out of their wheels: nothing of them is installed beside hvax.

`pip download` brings a wheel into build/first-try/packages, once; the file is read from inside it.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

VERSIONS = {
    "palmerpenguins": "0.1.6",
    "scanpy": "1.11.5",
    "statsmodels": "0.15.0",
    "vega_datasets": "0.9.0",
}
BESIDE = Path(".venv-first-try")  # an environment of its own, for h5py


def read_packaged(package: str, name: str, folder: Path) -> bytes:
    """The file `name` (its path inside the package) of a wheel in `folder`."""
    with zipfile.ZipFile(_wheel(package, folder)) as wheel:
        return wheel.read(f"{package}/{name}")


def python_with_h5py() -> Path:
    """An interpreter that has h5py, in an environment of its own that is made where missing."""
    python = BESIDE / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(BESIDE)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "h5py==3.16.0"]
        subprocess.run(pip, check=True)
    return python


def _wheel(package: str, folder: Path) -> Path:
    version = VERSIONS[package]
    found = sorted(folder.glob(f"{package}-{version}-*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*pip, str(folder), f"{package}=={version}"], check=True)
        found = sorted(folder.glob(f"{package}-{version}-*.whl"))
    return found[0]
