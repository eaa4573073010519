import { existsSync, realpathSync } from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { namesIn } from "../../../models/cache/cache-owner.js";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Folders in which pip installs: of the virtual environment, the conda environment, and the python3 on the PATH with its
 * user's own. Known by where they are; no Python runs.
 */
export function sitePackages(env: Environment): string[] {
  const prefixes = [...environments(env), ...(env.HOME ? [join(env.HOME, ".local")] : [])];
  const folders = prefixes.flatMap((prefix) =>
    ["lib", "lib64"].flatMap((lib) =>
      namesIn(join(prefix, lib))
        .filter((name) => /^python3(\.\d+)?$/.test(name))
        .sort((a, b) => b.localeCompare(a, "en", { numeric: true }))
        .flatMap((name) => ["site-packages", "dist-packages"].map((kind) => join(prefix, lib, name, kind))),
    ),
  );
  return [...new Set(folders)].filter((folder) => existsSync(folder));
}

/** Folders that Python calls prefixes: bin/, lib/ and so on are in them. */
function environments(env: Environment): string[] {
  const active = [env.VIRTUAL_ENV, env.CONDA_PREFIX].flatMap((prefix) => (prefix ? [prefix] : []));
  const folder = (env.PATH ?? "").split(delimiter).find((each) => each !== "" && existsSync(join(each, "python3")));
  if (folder === undefined) return active;
  const real = dirname(dirname(realpathSync(join(folder, "python3"))));
  // pyenv puts a script in front of all its Pythons.
  const versions = join(dirname(folder), "versions");
  const behind = basename(folder) === "shims" ? namesIn(versions).map((name) => join(versions, name)) : [];
  const found = [dirname(folder), real, ...behind];
  return [...active, ...found, ...(found.includes("/usr") ? ["/usr/local"] : [])];
}
