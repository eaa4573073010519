import { pull } from "../../models/hub/pull.js";
import { parseReference } from "../../models/hub/reference.js";
import { UsageError } from "./flags.js";
import type { PullOptions } from "./options.js";
import { pullProgress, size } from "./pull-progress.js";

/** Fetches a model from a hub, and says where it is. */
export async function pullModel(name: string | undefined, options: PullOptions): Promise<number> {
  if (name === undefined) throw new UsageError("say which model: org/name[@revision]");
  const reference = parseReference(name);
  if (reference === null)
    throw new UsageError(
      `'${name}' is no model of a hub: it would be org/name, org/name@revision or org/name/file.gguf`,
    );
  if (reference.file !== null && options.file !== undefined)
    throw new UsageError(`${name} names a file already, and so does --file`);
  const progress = pullProgress(process.stderr);
  try {
    const { path, commit, files, fetched } = await pull(reference, options.file ?? null, process.env, progress);
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    progress.stop();
    process.stdout.write(
      `${reference.repository} at ${commit.slice(0, 12)}: ${files.length} files, ${size(bytes)} (${size(fetched)} fetched) in ${path}\n`,
    );
    return 0;
  } finally {
    progress.stop();
  }
}
