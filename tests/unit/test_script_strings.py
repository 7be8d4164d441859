"""What of a script is sure to be in a bundle of it, and what in a bundle may be it."""

import pytest

from vexstream.script_strings import exported, externals, traces, words


def numbers(*texts: bytes) -> list[int]:
    return [hash(text) for text in texts]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (b"a.createServer(b)", [b"createServer"]),
        (b"a?.createServer", [b"createServer"]),
        (b"f(...parameters)", []),
        (b"a.short", []),
        (b"createServer(handler)", []),
        (b"x = 'shop-keeper'", [b"shop-keeper"]),
        (b'x = "Unknown customer today"', [b"Unknown customer", b"customer today"]),
        (b"x = `Unknown customer today`", [b"Unknown customer", b"customer today"]),
        (b"x = `Unknown customer ${name} today`", []),
        (b"// x.createServer 'Unknown customer today'", []),
        (b"/* x.createServer\n 'Unknown customer today' */ y", []),
        (b"/* x.createServer never ends", []),
        (b"a.replace(/'/g, quotation, 'shopkeeper')", [b"replace", b"shopkeeper"]),
        (b"return /[/'\"]/.exec(customers)", []),
        (b"x = 'it\\'s a customer'", []),
        (b"x = /customer\nf('shopkeeper')", [b"shopkeeper"]),
        (b"f('a', customers, 'b')", []),
        (b"'never ends\n.createServer", [b"createServer"]),
        (b"x = 'Unknown customer today' + shop", [b"Unknown customer"]),
        (b"x = shop +\n  'Unknown customer today'", [b"customer today"]),
        (b"x = 'shopkeeper' + shop", []),
        (b"a.shopkeeper.shopkeeper", [b"shopkeeper"]),
        (b"require('shopkeeper')", []),
        (b"import x from 'shopkeeper'; import('shopkeeper')", []),
        (b"module.exports = typeof x == 'undefined'", []),
    ],
)
def test_what_is_sure_to_survive(script: bytes, found: list[bytes]) -> None:
    told = traces(script)
    assert list(told.all) == numbers(*found)
    assert set(found and told.all) <= words(script)


def test_strings_alone_are_told_apart() -> None:
    assert list(traces(b"a.createServer('shopkeeper')").strings) == numbers(b"shopkeeper")


def test_code_is_counted_without_spaces_and_comments() -> None:
    assert traces(b"a = 1; // and so on\n/* and so\non */ b").code == len("a=1;b")


def test_a_bundle_has_the_same_in_other_words() -> None:
    bundle = words(
        b"let a={createServer:b,'shop-keeper':1};throw Error(\"Unknown customer today\")"
    )
    wanted = numbers(b"createServer", b"shop-keeper", b"Unknown customer", b"customer today")
    assert bundle >= set(wanted)
    assert not bundle & set(numbers(b"shopkeeper", b"Unknown today"))


@pytest.mark.parametrize(
    "script",
    [b"exports.shop = 1", b"module.exports.shop=1", b"Object.defineProperty(exports, 'shop', x)",
     b"exports['shop'] = 1", b"export function shop() {}", b"export const shop = 1",
     b"export async function* shop() {}", b"export { x as y, shop }"],
)  # fmt: skip
def test_names_that_a_module_exports(script: bytes) -> None:
    assert hash(b"shop") in set(exported(script))


def test_packages_that_are_loaded_by_name() -> None:
    script = b"import a from'@x/y/z';require(\"express\");await import(`ms`);require('./own')"
    assert {hash(b"@x/y"), hash(b"express"), hash(b"ms")} <= externals(script)
