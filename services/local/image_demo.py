"""What the demo's image has above the Debian base: Python libraries and the web application.

The libraries are releases of autumn 2022, with vulnerabilities that are known today. They are
downloaded here and installed by the image's own Python, so that their RECORD files and compiled
modules are as in any image.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from services.local import image_base
from services.local.image_archive import File, ImageConfig, ImageError, layer_of_directory
from services.local.image_base import Progress
from services.local.image_cache import cached_file

HOME = "/opt/app"
CONFIG = ImageConfig(
    entrypoint=(f"{HOME}/venv/bin/python", "-m", "app"),
    env={"PORT": "8000"},
    working_dir=HOME,
)

_INSTALLER = "pip==22.3.1"
_LIBRARIES = (
    # used from the start
    "Flask==2.2.2", "Jinja2==3.1.2", "MarkupSafe==2.1.2", "Werkzeug==2.2.2", "click==8.1.3",
    "itsdangerous==2.1.2",
    # used from the first request to /fetch
    "certifi==2022.9.24", "charset-normalizer==2.1.1", "idna==3.4", "requests==2.28.1",
    "urllib3==1.26.12",
    # used from the first request to /thumbnail
    "Pillow==9.3.0",
    # never used
    "PyYAML==6.0", "cffi==1.15.1", "cryptography==38.0.3", "gunicorn==20.1.0", "lxml==4.9.1",
    "pycparser==2.21", "setuptools==65.5.0",
)  # fmt: skip


def libraries_layer(cache: Path, base: Path, progress: Progress) -> Path:
    """A virtual environment with the libraries.

    Raises:
        ImageError: a download or the installation failed.
    """

    def build(layer: Path) -> None:
        progress("installing the demo's Python libraries (about 20 seconds, once)")
        with tempfile.TemporaryDirectory(dir=cache) as work:
            root = Path(work, "root")
            image_base.unpack(base, root)
            wheels = root / "wheels"
            _download(wheels)
            venv = f"{HOME}/venv"
            pip = f"/wheels/{next(wheels.glob('pip-*.whl')).name}/pip"
            image_base.run_inside(root, ["/usr/bin/python3", "-m", "venv", "--without-pip", venv])
            image_base.run_inside(
                root, [f"{venv}/bin/python", pip, "install", "--no-index", "--find-links",
                       "/wheels", "--no-cache-dir", _INSTALLER, *_LIBRARIES]
            )  # fmt: skip
            layer_of_directory(root, layer, HOME.lstrip("/"))

    recipe = [base.name, HOME, _INSTALLER, _LIBRARIES]
    return cached_file(cache, "demo-libraries", recipe, build)


def sources() -> dict[str, File]:
    """The web application's files by their path in the image."""
    folder = resources.files("services.local") / "demo_app"
    return {
        f"{HOME}/app/{file.name}": File(file.read_bytes())
        for file in folder.iterdir()
        if file.name.endswith(".py")
    }


def _download(wheels: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--dest", str(wheels), "--no-deps", "--only-binary=:all:",
        "--python-version", image_base.PYTHON, "--implementation", "cp",
        "--platform", f"manylinux2014_{platform.machine()}", _INSTALLER, *_LIBRARIES,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(wheels, ignore_errors=True)
        raise ImageError(f"cannot download the demo's libraries: {done.stderr.strip()[-2000:]}")
