"""Programs of Elixir and Erlang that run copies of Debian's modules, made by mix and rebar3.

A release has modules without what only debuggers read, in directories of its own, and may have the
runtime; an escript is a zip archive behind a script. strace tells that Debian's own stay closed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

DEBS = ("erlang-base", "erlang-crypto", "erlang-mnesia", "elixir")
PROJECT = """
defmodule Shop.MixProject do
  use Mix.Project
  def project, do: [app: :shop, version: "1.0.0", escript: [main_module: Shop],
    releases: [shop: [include_erts: {erts}]]]
  def application, do: [extra_applications: [:crypto]]
end
"""
MAIN = """
defmodule Shop do
  def main(_), do: IO.puts(Base.encode16(:crypto.hash(:sha256, "a")))
end
"""
TOOL = "-module(tool).\n-export([main/1]).\nmain(_) -> io:format(~p, [lists:seq(1, 3)]).\n"
TOOL = TOOL.replace("~p", '"~p"')


def _mix(work: Path, erts: str, *command: str | Path) -> None:
    mix = ecosystems.need("mix", "apt-get install elixir")
    ecosystems.write(work, {"mix.exs": PROJECT.replace("{erts}", erts), "lib/shop.ex": MAIN})
    home = {"MIX_ENV": "prod", "MIX_HOME": str(work / "mix"), "LANG": "C.UTF-8"}
    ecosystems.run([mix, *command], work, home)


def release(root: Path, work: Path) -> tuple[list[str], str, set[str]]:
    _mix(work, "true", "release", "--quiet", "--path", root / "srv/shop")
    command = [str(root / "srv/shop/bin/shop"), "eval", "Shop.main([])"]
    return command, "srv/shop/lib", {"erlang-base", "erlang-crypto", "elixir"}


def release_without_runtime(root: Path, work: Path) -> tuple[list[str], str, set[str]]:
    """Erlang is this machine's, and only Elixir's modules are copies."""
    _mix(work, "false", "release", "--quiet", "--path", root / "srv/shop")
    return [str(root / "srv/shop/bin/shop"), "eval", "Shop.main([])"], "srv/shop/lib", {"elixir"}


def escript(root: Path, work: Path) -> tuple[list[str], str, set[str]]:
    """What it holds is not looked at: it may be any of them."""
    _mix(work, "true", "escript.build")
    ecosystems.write(root, {"srv/shop": (work / "shop").read_bytes()})
    return ["escript", str(root / "srv/shop")], "srv/shop", set(DEBS)


def rebar3_escript(root: Path, work: Path) -> tuple[list[str], str, set[str]]:
    rebar = ecosystems.need("rebar3", "apt-get install rebar3")
    application = '{application, tool, [{vsn, "1"}, {applications, [kernel, stdlib]}]}.'
    ecosystems.write(work, {
        "src/tool.erl": TOOL, "src/tool.app.src": application,
        "rebar.config": "{escript_incl_apps, [tool, stdlib]}.\n{escript_main_app, tool}.\n",
    })  # fmt: skip
    ecosystems.run([rebar, "escriptize"], work, {"HOME": str(work), "LANG": "C.UTF-8"})
    ecosystems.write(root, {"srv/tool": (work / "_build/default/bin/tool").read_bytes()})
    return ["escript", str(root / "srv/tool")], "srv/tool", set(DEBS)


@pytest.mark.parametrize("make", [release, release_without_runtime, escript, rebar3_escript])
def test_copies_of_erlangs_modules_are_files_of_their_packages(
    make: Callable[[Path, Path], tuple[list[str], str, set[str]]], syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    command, place, packages = make(root, work)
    ecosystems.installed_debs(root, *DEBS)
    used = {file for file in mapped.opened(root, work, command) if file.startswith(b"/srv/")}
    found = {p.name: p for p in mapped.packages(root, work, syft) if p.type == "deb"}
    holders = {name for name, package in found.items() if used & set(package.files)}
    assert holders == packages
    within = [file for file in used if file.startswith(f"/{place}".encode())]
    copies = {f for f in within if f.endswith((b".beam", b".so")) and b"/shop-1.0.0/" not in f}
    assert copies <= {file for package in found.values() for file in package.files}
    assert within
    assert {package.unobservable for package in found.values()} == {None}
