"""The action and the examples: true to the command's options, and safe with what they are given."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

from services.cli import app
from tests.support.schemastore import stored_schema

_ROOT = Path(__file__).parents[2]
_SCRIPT = _ROOT / "deploy/ci/github.sh"


def _options(command: str) -> set[str]:
    """The long options of a command."""
    found: Any = get_command(app)
    return {
        option for p in found.commands[command].params for option in [*p.opts, *p.secondary_opts]
    }


def _action() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((_ROOT / "action.yml").read_text())
    return read


def test_every_option_of_the_script_is_one_of_the_command() -> None:
    used = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", _SCRIPT.read_text()))
    assert used
    assert used <= _options("ci")


def test_every_input_reaches_the_script_and_every_output_leaves_it() -> None:
    action = _action()
    step = action["runs"]["steps"][-1]
    script = _SCRIPT.read_text()
    taken = set(re.findall(r"inputs\.([a-z-]+)", " ".join(step["env"].values())))
    assert taken == set(action["inputs"])
    for variable in step["env"]:
        assert re.search(rf"\${{?{variable}\b", script), variable
    for name, output in action["outputs"].items():
        assert output["value"] == f"${{{{ steps.run.outputs.{name} }}}}"
        assert f"{name}=" in script
    # An input within a command's text would be code.
    assert "inputs." not in step["run"]


@pytest.mark.parametrize(
    ("file", "mark"),
    [
        ("action.yml", b"creating-actions/meta"),
        ("examples/ci/github.yml", b"help.github.com/en/github/automating-your-workfl"),
        ("examples/ci/gitlab.yml", b"https://gitlab.com/.gitlab-ci.yml"),
    ],
)
def test_files_are_what_github_and_gitlab_take(file: str, mark: bytes) -> None:
    document = yaml.load((_ROOT / file).read_text(), _Loader)
    schema = stored_schema(mark)
    if "gitlab" in file:  # the stored schema is older than GitLab 15.7
        tokens = [job.pop("id_tokens") for job in document.values() if "id_tokens" in job]
        assert tokens == [{"SIGSTORE_ID_TOKEN": {"aud": "sigstore"}}]
    jsonschema.validate(document, schema)
    spoilt = document | {"runs": {"using": "nothing"}, "jobs": 1, "unit": {"script": {}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, schema)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2, as GitHub reads it: ``on`` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|false)\\Z"), list("tf"))


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_examples_use_options_that_exist(name: str) -> None:
    text = (_ROOT / "examples/ci" / name).read_text()
    yaml.safe_load(text)
    for command in ("ci", "merge"):
        for call in re.findall(rf"vexstream {command} (?:[^\n]|\n      )*", text):
            ours = call.split(" -- ")[0]
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", ours)) <= _options(command)


def test_the_github_example_gives_inputs_that_exist() -> None:
    example = yaml.safe_load((_ROOT / "examples/ci/github.yml").read_text())
    steps = example["jobs"]["unit"]["steps"]
    [step] = [step for step in steps if step.get("uses", "").startswith("vexstream/vexstream@")]
    assert set(step["with"]) <= set(_action()["inputs"])


def test_the_script_hands_on_arguments_as_they_are(tmp_path: Path) -> None:
    """With a stand-in for the command that writes down what it was given."""
    fake = tmp_path / "vexstream"
    fake.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$SEEN"\nenv > environment\nmkdir -p out\n'
        "cat > out/result.json <<E\n"
        '{"outcome": "policy_violated", "violations": 2, "has_document": true, "warnings": ["w"],'
        ' "counts": {"affected": 3, "under_investigation": 1, "not_affected": 9}}\nE\n'
        "echo summary > out/summary.md\nexit 1\n"
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    done = _run(tmp_path, fake, {"COMMAND": "sh\n-c\necho $(id) 'a b'", "VARIABLES": "A=1\nB=x y"})
    assert done.returncode == 1, done.stderr
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen[seen.index("--") + 1 :] == ["sh", "-c", "echo $(id) 'a b'"]
    assert [seen[i + 1] for i, word in enumerate(seen) if word == "--env"] == ["A=1", "B=x y"]
    assert "--sign" not in seen
    assert "VEXSTREAM_SIGNING_KEYLESS" not in (tmp_path / "environment").read_text()
    assert "--rule-out" not in seen
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert outputs == {
        "outcome": "policy_violated", "affected": "3", "under-investigation": "1",
        "not-affected": "9", "violations": "2", "openvex": "out/openvex.json", "attestation": "",
        "sarif": "out/vexstream.sarif", "junit": "out/junit.xml",
    }  # fmt: skip
    assert (tmp_path / "summary").read_text() == "summary\n"
    assert "::warning title=vexstream::w" in done.stderr


@pytest.mark.parametrize(
    ("variables", "signs", "by"),
    [
        ({}, False, ""),
        ({"SIGN": "none", "VEXSTREAM_SIGNING_KEY": "k"}, False, ""),
        ({"VEXSTREAM_SIGNING_KEY": "k"}, True, "VEXSTREAM_SIGNING_KEY=k"),
        ({"SIGN": "key", "VEXSTREAM_SIGNING_KEY": "k"}, True, "VEXSTREAM_SIGNING_KEY=k"),
        ({"SIGN": "keyless"}, True, "VEXSTREAM_SIGNING_KEYLESS=true"),
        ({"SIGN": "keyless", "VEXSTREAM_SIGSTORE_TRUST_CONFIG": "t"}, True,
         "VEXSTREAM_SIGSTORE_TRUST_CONFIG=t"),
    ],
)  # fmt: skip
def test_the_script_signs_as_it_is_told(
    tmp_path: Path, variables: dict[str, str], signs: bool, by: str
) -> None:
    fake = tmp_path / "vexstream"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$SEEN"\nenv > environment\n')
    fake.chmod(0o755)
    assert _run(tmp_path, fake, variables).returncode == 0
    assert ("--sign" in (tmp_path / "seen").read_text().splitlines()) is signs
    environment = (tmp_path / "environment").read_text().splitlines()
    assert by in ["", *environment]
    assert not [line for line in environment if line.startswith("VEXSTREAM_S") and line[-1] == "="]


def test_a_way_to_sign_that_there_is_not_is_said(tmp_path: Path) -> None:
    done = _run(tmp_path, Path("/bin/true"), {"SIGN": "keylss"})
    assert (done.returncode, "not keylss" in done.stderr) == (2, True)


def test_a_run_without_evidence_says_so(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text('{"outcome": "passed"}')  # an earlier step's
    done = _run(tmp_path, Path("/bin/false"), {})
    assert done.returncode == 1
    assert (tmp_path / "outputs").read_text() == "outcome=no_evidence\n"


def _run(
    folder: Path, command: Path, variables: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    inputs = _action()["runs"]["steps"][-1]["env"]
    env = {
        **os.environ, **dict.fromkeys(inputs, ""), "IMAGE": "shop:1", "TESTS_IN": "container",
        "OUTPUT": "out", "JOB": "unit", "TIMEOUT_SECONDS": "60", "WARN_BELOW_PERCENT": "10",
        "VEXSTREAM_CI": str(command), "SEEN": str(folder / "seen"), "RUNNER_TEMP": str(folder),
        "GITHUB_ACTION_PATH": str(_ROOT), "GITHUB_OUTPUT": str(folder / "outputs"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"), **variables,
    }  # fmt: skip
    return subprocess.run(
        [str(_SCRIPT)], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
