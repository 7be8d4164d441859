"""What an opened file says about the package that owns it, and the one spelling of a path.

Only files that no program needs to do its work are ``METADATA``: opening one is not use of the
package. The table is short on purpose. A file wrongly called metadata hides a use and could make
a wrong ``not_affected``; a file wrongly called code or data only keeps a statement ``affected``.
So everything that no rule names counts as use.
"""

import posixpath
import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the use of a file means."""

    CODE = "code"
    """A program, a library or a script: its use is use of the package."""
    DATA = "data"
    """Anything else that a program reads: counts as use as well, and can be told apart."""
    METADATA = "metadata"
    """Documentation, translations, package databases: never use of the package."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Paths that are metadata, and why. The pattern is matched from the beginning of the path."""

    pattern: bytes
    reason: str


# Written by Python's installers. importlib.metadata, pip and scanners read them, imports do not.
_DIST_INFO = (
    rb"METADATA|RECORD(?:\.jws|\.p7s)?|WHEEL|INSTALLER|REQUESTED|direct_url\.json"
    rb"|entry_points\.txt|top_level\.txt|namespace_packages\.txt|dependency_links\.txt"
    rb"|zip-safe|pbr\.json|metadata\.json|uv_build\.json|uv_cache\.json"
    rb"|(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*|licen[cs]es/.*|sboms/.*"
)
_EGG_INFO = (
    rb"PKG-INFO|SOURCES\.txt|requires\.txt|installed-files\.txt|not-zip-safe|native_libs\.txt"
    rb"|" + _DIST_INFO
)

_SCRIPTS = rb"pyc?|(?:ba|z|k|c|fi)?sh|p[lm]|rb|[cm]?js|php|lua|tcl|elc?|vim|jar|so"

DIRECTORY_RULES: tuple[Rule, ...] = (
    Rule(
        rb"/usr/share/(?:doc|doc-base|man|info|gtk-doc|help)/(?!(?s:.*)\.(?:%b)\Z)" % _SCRIPTS,
        "documentation for people; not scripts: shells are told to read fzf's key bindings there",
    ),
    Rule(rb"/usr/share/locale/.+/LC_MESSAGES/", "translated messages carry no behaviour"),
    Rule(rb"/usr/share/(?:lintian|bug|metainfo|appdata)/", "remarks of packagers"),
    Rule(rb"/usr/share/(?:licenses|common-licenses)/", "texts of licences"),
    Rule(rb"/var/lib/dpkg/", "dpkg's database: package managers and scanners read all of it"),
    Rule(rb"/(?:usr/)?lib/apk/db/", "apk's database"),
    Rule(rb"/(?:var/lib|usr/lib/sysimage)/rpm/", "rpm's database"),
    Rule(rb"/var/lib/pacman/(?:local|sync)/", "pacman's database"),
)
PYTHON_RULES: tuple[Rule, ...] = (
    Rule(
        rb".*\.dist-info/(?:%b)\Z" % _DIST_INFO,
        "installation record of a Python package: listing what is installed reads every one",
    ),
    Rule(
        rb".*(?:\.egg-info|/EGG-INFO)/(?:%b)\Z" % _EGG_INFO,
        "the same in the older form of setuptools and inside eggs",
    ),
    Rule(rb".*\.egg-info\Z", "the same in distutils' form, a single file"),
)
RULES = DIRECTORY_RULES + PYTHON_RULES

_COMPILED = [(re.compile(rule.pattern), rule.reason) for rule in RULES]
_ANY_DIRECTORY = re.compile(b"|".join(rule.pattern for rule in DIRECTORY_RULES))
_ANY_PYTHON = re.compile(b"|".join(rule.pattern for rule in PYTHON_RULES))

_CODE_DIRECTORIES = (b"/bin", b"/sbin", b"/libexec")
_CODE_SUFFIXES = frozenset(
    b"." + suffix
    for suffix in (
        b"so ko a dylib dll exe elf"  # native
        b" py pyc pyo pyw pyx pyd pth egg whl zip"  # Python, and what it can import from
        b" js cjs mjs jsx ts cts mts tsx node wasm"  # Node
        b" jar war ear sar nar par kar lpkg jpi hpi class jmod jsa aot"  # Java
        b" groovy clj cljc"
        b" rb gem rake erb php phtml phar inc pl pm pod al ix psgi cgi"  # Ruby, PHP, Perl
        b" module install theme profile engine"  # PHP as Drupal names it
        b" beam ez exs el elc scm lua tcl r rdb rdx jl ps1 psm1"
        b" sh bash csh zsh ksh fish awk"
    ).split()
)

BYTECODE = b".pyc"
"""How the only paths end that are not owned under themselves."""

_BYTECODE = re.compile(
    rb"(.*/)__pycache__/([^/]+?)\.[^/.]+?(?:-pytest-[^/]+)?(?:\.opt-[0-9a-zA-Z]+)?\.pyc\Z",
    re.DOTALL,
)
"""pytest keeps modules with rewritten assertions, of every package that has a plugin for it,
under a tag with its own version (``__init__.cpython-311-pytest-8.3.4.pyc``)."""

_OF_JDK = re.compile(rb".*/lib/server/classes[^/]*\.jsa\Z", re.DOTALL)
_SHARED_CLASSES = re.compile(
    rb".*(?:\.jsa|\.aot|/C\d+[MD]\d+\w*_[^/]+_G\d+L\d+"
    rb"|/bundle\d+/version\d+\.\d+/bundle\.jar|/org\.eclipse\.osgi/\d+/\d+/bundleFile)\Z",
    re.DOTALL,
)
SHARED_CLASSES = "shared-classes"
"""What a file of the image is called that is such an archive by its content."""


def is_shared_classes(path: bytes) -> bool:
    """Whether it is an archive of classes from which a JVM runs what lies in others: HotSpot's and
    OpenJ9's, and the copies from which Felix and Equinox start bundles, under names that do not
    tell whose they are. That of the JDK's own classes, in lib/server, holds no others, unless it
    was made anew with the class path of an application."""
    return _SHARED_CLASSES.match(path) is not None and not is_of_jdk(path)


def is_of_jdk(path: bytes) -> bool:
    """Whether a JVM takes it for the archive of the JDK's own classes."""
    return _OF_JDK.match(path) is not None


def kind(path: bytes) -> Kind:
    """What the use of the file at this canonical path means."""
    if _is_metadata(path):
        return Kind.METADATA
    directory, name = posixpath.split(path)
    stem, suffix = posixpath.splitext(name)
    if (
        directory.endswith(_CODE_DIRECTORIES)
        or (stem and suffix.lower() in _CODE_SUFFIXES)
        or b".so." in name
    ):
        return Kind.CODE
    return Kind.DATA


def metadata_reason(path: bytes) -> str | None:
    """Why the file is metadata; None when it is not."""
    return next((reason for pattern, reason in _COMPILED if pattern.match(path)), None)


def owner_path(path: bytes) -> bytes:
    """The path under which a file is owned: of bytecode, the source that it was compiled from.

    ``d/__pycache__/m.cpython-311.opt-1.pyc`` becomes ``d/m.py``: Python writes the bytecode at the
    first import, so no package lists it, and once it is there the import may never read ``d/m.py``.
    To be applied to owned and observed paths alike.
    """
    if not path.endswith(BYTECODE):
        return path
    match = _BYTECODE.match(path)
    return match[1] + match[2] + b".py" if match else path


def _is_metadata(path: bytes) -> bool:
    if _ANY_DIRECTORY.match(path):
        return True
    # Nearly no path comes as far as the patterns that look at its end.
    return (b"-info" in path or b"EGG-INFO" in path) and _ANY_PYTHON.match(path) is not None
