"""The images of the demo and of the tests, built here: nothing is pulled from a registry.

pause       what a pod's sandbox runs
demo        a Python web application with known vulnerable libraries, of which it uses a part
probe       a Debian with room for test programs
unreadable  an archive whose layer is rubbish: what a scanner meets on a broken image

The first of each takes up to a minute and the network's Debian and Python archives; after that
they come from the cache folder.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from services.local import image_base, image_demo
from services.local.image_archive import (
    LAYER_TYPE,
    File,
    ImageArchive,
    ImageConfig,
    ImageError,
    architecture,
    layer_of_files,
    read_archive,
    write_archive,
)
from services.local.image_base import Progress
from services.local.image_cache import cached_file
from services.local.process import MissingPrerequisiteError

PAUSE = "localhost/pause:1"
DEMO = "localhost/vexstream/demo:1"
PROBE = "localhost/vexstream/probe:1"
UNREADABLE = "localhost/vexstream/unreadable:1"

_PAUSE_SOURCE = """\
/* Holds a pod's namespaces: reaps what is left to it, ends on SIGTERM or SIGINT. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal_number) { (void)signal_number; _exit(0); }
static void reap(int signal_number)
{
    (void)signal_number;
    while (waitpid(-1, 0, WNOHANG) > 0) {}
}

int main(void)
{
    signal(SIGTERM, end);
    signal(SIGINT, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
"""


def _silent(_: str) -> None:
    """The progress of one who does not want to know."""


def pause_image(cache: Path) -> ImageArchive:
    """Raises MissingPrerequisiteError when there is no C compiler."""

    def build(path: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            program, layer = Path(work, "pause"), Path(work, "layer.tar")
            _compile(_PAUSE_SOURCE, program)
            layer_of_files({"/pause": File(program.read_bytes(), 0o755)}, layer)
            write_archive(path, PAUSE, [layer], ImageConfig(entrypoint=("/pause",)))

    recipe = [architecture(), _PAUSE_SOURCE]
    return read_archive(cached_file(cache, "pause", recipe, build), PAUSE)


def demo_image(cache: Path, progress: Progress = _silent) -> ImageArchive:
    """The web application of demo_app/; its port is in the environment variable PORT.

    Raises:
        MissingPrerequisiteError: not root, or a tool is missing.
        ImageError: a download or a build failed.
    """
    base = image_base.debian_base(cache, progress)
    libraries = image_demo.libraries_layer(cache, base, progress)
    sources = image_demo.sources()

    def build(path: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            application = Path(work, "layer.tar")
            layer_of_files(sources, application)
            write_archive(path, DEMO, [base, libraries, application], image_demo.CONFIG)

    recipe = [base.name, libraries.name, _recipe_of(sources), repr(image_demo.CONFIG)]
    return read_archive(cached_file(cache, "demo", recipe, build), DEMO)


def probe_image(
    cache: Path,
    progress: Progress = _silent,
    *,
    files: Mapping[str, File] | None = None,
    name: str = PROBE,
) -> ImageArchive:
    """The Debian base with ``files`` (absolute, symlink-free path -> content) in a second layer.

    A container of it sleeps until it is stopped, unless it is given other arguments.

    Raises:
        MissingPrerequisiteError: not root, or a tool is missing.
        ImageError: a download or a build failed.
    """
    base = image_base.debian_base(cache, progress)
    added = dict(files or {})
    # The first process of a container is not ended by SIGTERM unless it asks for that.
    config = ImageConfig(command=("/usr/bin/sleep", "infinity"), stop_signal="SIGKILL")

    def build(path: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            layer = Path(work, "layer.tar")
            layer_of_files(added, layer)
            write_archive(path, name, [base, layer] if added else [base], config)

    recipe = [base.name, name, _recipe_of(added), repr(config)]
    return read_archive(cached_file(cache, "probe", recipe, build), name)


def unreadable_image(path: Path) -> ImageArchive:
    """Manifest, config and digests are right; the only layer claims gzip and is none."""
    with tempfile.NamedTemporaryFile() as layer:
        layer.write(b"this is no tar file\n" * 1000)
        layer.flush()
        return write_archive(
            path, UNREADABLE, [Path(layer.name)], ImageConfig(), layer_type=LAYER_TYPE + "+gzip"
        )


def _recipe_of(files: Mapping[str, File]) -> list[object]:
    return [
        [path, file.mode, hashlib.sha256(file.content).hexdigest()]
        for path, file in sorted(files.items())
    ]


def _compile(source: str, program: Path) -> None:
    try:
        subprocess.run(
            ["gcc", "-x", "c", "-static", "-Os", "-s", "-o", str(program), "-"],
            input=source.encode(), capture_output=True, check=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingPrerequisiteError("no C compiler: apt-get install gcc libc6-dev") from error
    except subprocess.CalledProcessError as error:
        raise ImageError(f"gcc: {error.stderr.decode(errors='replace').strip()}") from error
