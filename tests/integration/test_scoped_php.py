"""Copies of PHP packages with another namespace run, made with the parser and printer that
PHP-Scoper has, and by replacing text as Strauss does; the originals stay closed, says strace."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

FINDER = Path("/usr/share/php/Symfony/Component/Finder")
PARSER = Path("/usr/share/php/PhpParser/autoload.php")
PREFIX = "Shop\\Vendor\\"
MAIN = """<?php
spl_autoload_register(function ($class) {
    require __DIR__ . '/' . strtr(substr($class, strlen('Shop\\\\Vendor\\\\Symfony\\\\Component\\\\Finder\\\\')),
        ['\\\\' => '/']) . '.php';
});
foreach ((new Shop\\Vendor\\Symfony\\Component\\Finder\\Finder)->files()->name('*.php')->in(__DIR__) as $file) {
    echo $file->getFilename();
}
"""  # noqa: E501
SCOPER = """<?php
require '%s';
use PhpParser\\{Node, NodeTraverser, NodeVisitorAbstract, ParserFactory};
use PhpParser\\NodeVisitor\\NameResolver;
final class Prefixer extends NodeVisitorAbstract {
    public function enterNode(Node $node) {
        $used = $node instanceof Node\\Stmt\\UseUse && strpos($node->name->toString(), '\\\\');
        if ($used || $node instanceof Node\\Stmt\\Namespace_) {
            $node->name = Node\\Name::concat('Shop\\\\Vendor', $node->name);
        }
    }
    public function leaveNode(Node $node) {
        if ($node instanceof Node\\Name\\FullyQualified && strpos($node->toString(), '\\\\')) {
            return Node\\Name\\FullyQualified::concat('Shop\\\\Vendor', $node);
        }
        if ($node instanceof Node\\Expr\\FuncCall && $node->name instanceof Node\\Name) {
            $node->name = new Node\\Name\\FullyQualified($node->name->getLast());
        }
    }
}
foreach (array_slice($argv, 1) as $file) {
    $tree = (new ParserFactory)->create(ParserFactory::PREFER_PHP7)->parse(file_get_contents($file));
    $traverser = new NodeTraverser;
    $traverser->addVisitor(new NameResolver(null, ['preserveOriginalNames' => true]));
    $traverser->addVisitor(new Prefixer);
    $tree = $traverser->traverse($tree);
    file_put_contents($file, (new PhpParser\\PrettyPrinter\\Standard)->prettyPrintFile($tree));
}
"""  # noqa: E501


def printed(home: Path, work: Path) -> None:
    if not PARSER.exists():
        pytest.skip("php-parser is not installed: apt-get install php-parser")
    ecosystems.write(work, {"scoper.php": SCOPER % PARSER})
    ecosystems.run(["php", work / "scoper.php", *sorted(home.rglob("*.php"))], work)


def replaced(home: Path, work: Path) -> None:
    for path in home.rglob("*.php"):
        text = path.read_text()
        text = re.sub(r"(?<![\w\\])(\\?)(Symfony\\Component)", r"\1Shop\\Vendor\\\2", text)
        path.write_text(text)


@pytest.mark.parametrize("place", ["srv/lib/finder", "srv/build/symfony/finder"])
@pytest.mark.parametrize("change", [printed, replaced])
def test_a_copy_in_another_namespace_is_a_file_of_the_package(
    change: Callable[[Path, Path], None], place: str, syft: Path, tmp_path: Path
) -> None:
    ecosystems.need("php", "apt-get install php-cli")
    if not FINDER.exists():
        pytest.skip("Symfony's Finder is not installed: apt-get install composer")
    root, work, source = tmp_path / "root", tmp_path / "work", tmp_path / "finder"
    shutil.copytree(FINDER, source, ignore=shutil.ignore_patterns("autoload.php"))
    (source / "composer.json").write_text('{"name": "symfony/finder", "version": "5.4.0"}')
    home, installed = root / place, root / "srv/vendor"
    shutil.copytree(source, home)
    shutil.copytree(source, installed / "symfony/finder")
    (home / "composer.json").unlink()
    entry = {"name": "symfony/finder", "version": "5.4.0", "type": "library"}
    ecosystems.write(installed, {"composer/installed.json": json.dumps({"packages": [entry]})})
    change(home, work)
    ecosystems.write(root, {"srv/main.php": MAIN.replace("__DIR__ . '/'", f"'{home}/'")})
    work.mkdir(exist_ok=True)
    used = {
        file
        for file in mapped.opened(root, work, ["php", str(root / "srv/main.php")])
        if file.endswith(b".php")
    }
    copies = {file for file in used if file.startswith(f"/{place}/".encode())}
    assert len(copies) > 3
    assert not [file for file in used if file.startswith(b"/srv/vendor/")]
    [found] = [p for p in mapped.packages(root, work, syft) if p.name == "symfony/finder"]
    assert found.unobservable is None
    assert copies & set(found.files)
    if "symfony" in place:
        assert copies <= set(found.files)
