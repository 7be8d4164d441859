"""What ``benchmarks.scanner.bundles`` bundles, and with what."""

import json
from dataclasses import dataclass

PACKAGES = (
    "ajv@8.12.0", "async@3.2.5", "axios@1.6.2", "bcryptjs@2.4.3", "bluebird@3.7.2", "chalk@4.1.2",
    "cheerio@1.0.0-rc.12", "commander@11.1.0", "cookie-parser@1.4.6", "cors@2.8.5",
    "date-fns@2.30.0", "dayjs@1.11.10", "debug@4.3.4", "dotenv@16.3.1", "ejs@3.1.9",
    "express@4.18.2", "fast-xml-parser@4.3.2", "fastify@4.24.3", "form-data@4.0.0", "glob@10.3.10",
    "got@11.8.6", "graphql@16.8.1", "handlebars@4.7.8", "helmet@7.1.0", "immer@10.0.3",
    "ioredis@5.3.2", "joi@17.11.0", "js-yaml@4.1.0", "jsonwebtoken@9.0.2", "koa@2.14.2",
    "lodash@4.17.21", "lodash-es@4.17.21", "marked@11.0.0", "minimist@1.2.8", "moment@2.29.4",
    "mongodb@6.3.0", "morgan@1.10.0", "multer@1.4.5-lts.1", "mysql2@3.6.5", "node-fetch@2.7.0",
    "nodemailer@6.9.7", "pg@8.11.3", "pino@8.16.2", "qs@6.11.2", "react@18.2.0",
    "react-dom@18.2.0", "readable-stream@4.4.2", "rxjs@7.8.1", "semver@7.5.4", "socket.io@4.7.2",
    "tar@6.2.0", "undici@5.28.2", "uuid@9.0.1", "validator@13.11.0", "winston@3.11.0", "ws@8.14.2",
    "xml2js@0.6.2", "yargs@17.7.2", "zod@3.22.4",
)  # fmt: skip
_PARTS = {
    "part-lodash-es": ("lodash-es", "debounce"),
    "part-date-fns": ("date-fns", "addDays"),
    "part-rxjs": ("rxjs", "interval"),
    "part-uuid": ("uuid", "v4"),
    "part-validator": ("validator", "isEmail"),
    "part-semver": ("semver", "satisfies"),
    "part-graphql": ("graphql", "parse"),
    "part-yargs": ("yargs/helpers", "hideBin"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an entry loads: a package, or one function of it."""

    module: str
    part: str | None = None


ENTRIES = {
    one.rpartition("@")[0].replace(".", "-"): Loaded(one.rpartition("@")[0]) for one in PACKAGES
} | {name: Loaded(*part) for name, part in _PARTS.items()}


@dataclass(frozen=True, slots=True)
class Bundler:
    """A bundler; ``script`` runs it (bundlers/)."""

    name: str
    script: str
    tools: tuple[str, ...]
    requires: bool = False
    """Entries call ``require``: webpack joins no modules then."""

    def text(self, loaded: Loaded) -> str | None:
        """The entry; None where there is none to be written."""
        name = json.dumps(loaded.module)
        if self.requires:
            return None if loaded.part else f"globalThis.kept = [require({name})];\n"
        if loaded.part:
            return f"import {{ {loaded.part} }} from {name};\nglobalThis.kept = [{loaded.part}];\n"
        return f"import * as all from {name};\nglobalThis.kept = [all];\n"


BUNDLERS = (
    Bundler("esbuild", "esbuild", ("esbuild@0.25.12",)),
    Bundler("webpack", "webpack", ("webpack@5.97.1",)),
    Bundler("webpack, require", "webpack", ("webpack@5.97.1",), requires=True),
    Bundler("ncc", "ncc", ("@vercel/ncc@0.38.3",), requires=True),
    Bundler(
        "rollup", "rollup",
        ("rollup@4.9.1", "@rollup/plugin-commonjs@25.0.7", "@rollup/plugin-json@6.1.0",
         "@rollup/plugin-node-resolve@15.2.3", "@rollup/plugin-terser@0.4.4"),
    ),
)  # fmt: skip
