"""action.yml run as a runner runs it, on a real container: its steps, and by `act` where it is.

`act` is a runner of GitHub's workflows; `go install github.com/nektos/act@v0.2.89` builds it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from services.local.image_archive import ImageArchive
from services.local.ports import free_port
from services.publish.keyless import verify_identity
from tests.support.sigstore import WORKFLOW, Sigstore

pytestmark = pytest.mark.real

_ROOT = Path(__file__).parents[2]
_SHIPPED = ("action.yml", "deploy/ci", "scripts", "pyproject.toml")
_SECONDS = 300
_INPUTS = {
    "command": "/bin/sh\n-c\n/usr/bin/tar --version",
    "fail-on": "affected:negligible",
    "output": "out",
    "job": "unit",
}


def test_its_steps_observe_a_container_and_set_the_outputs(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path
) -> None:
    """The last step; the first one is what every test run here begins with (scripts/bootstrap)."""
    step = _Step(tmp_path, {**_INPUTS, "image": str(probe_image.path)}, demo_database)
    assert step.done.returncode == 1, step.done.stderr  # policy violated: the tests used tar
    outputs = step.outputs
    assert set(outputs) == set(_action()["outputs"])
    assert outputs["outcome"] == "policy_violated"
    assert int(outputs["violations"]) == int(outputs["affected"]) > 0
    assert int(outputs["not-affected"]) == 0 < int(outputs["under-investigation"])
    assert outputs["attestation"] == ""
    for name in ("openvex", "sarif", "junit"):
        assert (tmp_path / outputs[name]).stat().st_size
    assert "violate `--fail-on affected:negligible`" in step.summary
    assert "::warning title=vexstream::The tests used little" in step.done.stderr


def test_its_step_signs_as_the_workflow_that_it_runs_in(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path, sigstore: Sigstore
) -> None:
    inputs = {"sign": "keyless", "sigstore-trust-config": str(sigstore.trust_config)}
    given = {**_INPUTS, **inputs, "image": str(probe_image.path)}
    step = _Step(tmp_path, given, {**demo_database, **sigstore.github.job()})
    assert step.done.returncode == 1, step.done.stderr
    bundle = (tmp_path / step.outputs["attestation"]).read_bytes()
    who, issuer = f"https://github.com/{WORKFLOW}", sigstore.github.url
    attested = verify_identity(bundle, who, issuer, sigstore.trust_config)
    assert attested.document == (tmp_path / step.outputs["openvex"]).read_bytes()


class _Step:
    """The action's last step, run as a runner runs it."""

    def __init__(
        self, folder: Path, given: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        action = _action()
        inputs = {name: str(of.get("default", "")) for name, of in action["inputs"].items()}
        inputs |= given
        files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        step = action["runs"]["steps"][-1]
        variables = {name: _filled(value, inputs) for name, value in step["env"].items()}
        self.done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
            env={
                **os.environ, **environment, **variables, "GITHUB_ACTION_PATH": str(_ROOT),
                "RUNNER_TEMP": str(folder), **{name: str(file) for name, file in files.items()},
            },
        )  # fmt: skip
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        self.outputs = dict(line.split("=", 1) for line in lines)
        self.summary = files["GITHUB_STEP_SUMMARY"].read_text()


def _action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((_ROOT / "action.yml").read_text())
    return read


def _filled(value: str, inputs: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: inputs[found[1]], value)


def test_a_runner_takes_it(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path
) -> None:
    """As examples/ci/github.yml names it; the repository stands in for the released one."""
    act = shutil.which("act", path=f"{_ROOT / '.cache/bin'}:{os.environ['PATH']}")
    if act is None:
        pytest.skip("no act: GOBIN=$PWD/.cache/bin go install github.com/nektos/act@v0.2.89")
    released = _released(tmp_path / "released")
    uses = "vexstream/vexstream@v0.1.0"
    assert uses in (_ROOT / "examples/ci/github.yml").read_text()
    show = "echo outcome=${{ steps.vex.outputs.outcome }} n=${{ steps.vex.outputs.violations }}"
    workflow: dict[str, Any] = {
        "name": "image",
        "on": ["push"],
        "jobs": {
            "unit": {
                "runs-on": "ubuntu-latest",
                "steps": [
                    {
                        "uses": uses,
                        "id": "vex",
                        "with": {**_INPUTS, "image": str(probe_image.path)},
                    },
                    {"if": "always()", "run": show},
                ],
            }
        },
    }
    _repository(tmp_path / "project", {".github/workflows/image.yml": yaml.safe_dump(workflow)})
    variables = [part for n, v in demo_database.items() for part in ("--env", f"{n}={v}")]
    done = subprocess.run(
        [act, "push", "-P", "ubuntu-latest=-self-hosted", "--container-daemon-socket", "-",
         "--local-repository", f"{uses}={released}", *variables],
        cwd=tmp_path / "project", capture_output=True, text=True, timeout=_SECONDS, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    assert re.search(r"\| outcome=policy_violated n=[1-9]", done.stdout), done.stdout[-3000:]
    assert done.returncode == 1


def _released(folder: Path) -> Path:
    """What the action needs of the repository, installed already."""
    folder.mkdir()
    for name in _SHIPPED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        source = _ROOT / name
        copy: Any = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    for name in (".venv", ".cache", "services", "schemas", "vexstream"):
        (folder / name).symlink_to(_ROOT / name)
    _repository(folder, {})
    return folder


def _repository(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "--all"],
        [
            "git",
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@localhost",
            "commit",
            "--quiet",
            "-m",
            "t",
        ],
    ):
        subprocess.run(command, cwd=folder, check=True, timeout=60)


def test_the_jobs_of_the_gitlab_example_run_and_merge(
    demo_database: Mapping[str, str], demo_image: ImageArchive, tmp_path: Path
) -> None:
    """All but the build, as GitLab's shell executor runs them; the image and its tests are ours.
    It signs with a key: what a job's token does is in test_keyless.py."""
    jobs = yaml.safe_load((_ROOT / "examples/ci/gitlab.yml").read_text())
    (tmp_path / "image.tar").symlink_to(demo_image.path)
    port = free_port()
    key = ed25519.Ed25519PrivateKey.generate()
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {
        "sudo": 'shift; exec "$@"',  # -E
        "vexstream": f'exec {sys.executable} -m services.cli "$@"',
        "../e2e.sh": "exec curl -fsS http://$VEXSTREAM_CI_HOST:$VEXSTREAM_CI_PORT/fetch",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ, **demo_database, "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{_ROOT}:{os.environ['PYTHONPATH']}", "CI_COMMIT_SHORT_SHA": "0123abcd",
        "VEXSTREAM_SIGNING_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    for job in ("unit", "e2e", "vex"):
        # The image has no pytest, and an entry point that serves.
        script = "\n".join(jobs[job]["script"])
        script = script.replace("-- pytest -q", "--tests-in exec -- /bin/sh -c 'exit 0'")
        script = script.replace("--port 8000", f"--port {port} --env PORT={port}")
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True,
            timeout=_SECONDS, check=False, env={**environment, "CI_JOB_NAME": job},
        )  # fmt: skip
        assert done.returncode in ((0, 1) if job != "vex" else (0,)), done.stderr[-3000:]
        for path in jobs[job]["artifacts"]["paths"]:
            assert (tmp_path / path).exists()
    assert (tmp_path / "vexstream-ci/openvex.sigstore.json").stat().st_size
    merged = json.loads((tmp_path / "vex.json").read_bytes())
    assert "/ci/merged/" in merged["@id"]
    documents = [json.loads((tmp_path / f"vexstream-ci{part}/openvex.json").read_bytes())
                 for part in ("", "-e2e")]  # fmt: skip
    used = {_key(s) for d in documents for s in d["statements"] if s["status"] == "affected"}
    assert used == {_key(s) for s in merged["statements"] if s["status"] == "affected"}
    assert used > {_key(s) for s in documents[0]["statements"] if s["status"] == "affected"}


def _key(statement: Mapping[str, Any]) -> tuple[str, str]:
    component = statement["products"][0]["subcomponents"][0]["@id"]
    return statement["vulnerability"]["name"], component
