import { HubError } from "./hub-error.js";
import type { RemoteFile } from "./repository.js";

/** What a model needs besides its weights, where it has them. Pickles are never among them: opening one runs its code. */
const BESIDES_WEIGHTS = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
];
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const LISTED = 30;

/** The files of a repository that make one model. */
export interface ChosenFiles {
  readonly files: readonly RemoteFile[];
  /** Names the other files that are needed: its shards. */
  readonly index: RemoteFile | null;
}

/** A GGUF file, or all parts of one that is split. */
export interface GgufChoice {
  /** Of the file, or of the first part. */
  readonly path: string;
  readonly parts: readonly string[];
}

/**
 * Safetensors with what goes with them, or where there are none (or `pattern` asks) one GGUF, which holds all of it.
 * @param pattern a path in the repository, or a name with * and ?, case ignored
 * @throws HubError listing what there is to choose from.
 */
export function chooseFiles(repository: string, files: readonly RemoteFile[], pattern: string | null): ChosenFiles {
  const named = new Map(files.map((file) => [file.path, file]));
  const pick = (paths: readonly string[]) => paths.flatMap((path) => named.get(path) ?? []);
  if (pattern === null && (named.has(SINGLE) || named.has(INDEX))) {
    if (named.has(SINGLE)) return { files: pick([...BESIDES_WEIGHTS, SINGLE]), index: null };
    return { files: pick([...BESIDES_WEIGHTS, INDEX]), index: named.get(INDEX) ?? null };
  }
  const all = ggufChoices([...named.keys()]);
  const choices = all.filter(({ path }) => (pattern === null ? !isProjector(path) : matches(path, pattern)));
  const [only, second] = choices;
  if (only !== undefined && second === undefined) return { files: pick(whole(repository, only)), index: null };
  if (only !== undefined) {
    const what = pattern === null ? "several GGUF files" : `several GGUF files that '${pattern}' fits`;
    throw new HubError("missing", `${repository} holds ${what}; choose one with --file:\n${listOf(choices, named)}`);
  }
  if (pattern !== null && all.length > 0)
    throw new HubError(
      "missing",
      `${repository} holds no GGUF file that '${pattern}' fits, but:\n${listOf(all, named)}`,
    );
  throw new HubError(
    "missing",
    `${repository} holds no weights that can be used: ${pattern === null ? `no ${SINGLE}, no ${INDEX} and ` : ""}no GGUF file${pickles(files)}`,
  );
}

/** The GGUF files among paths of a repository, parts of a split one taken together; in the order of their names. */
export function ggufChoices(paths: readonly string[]): GgufChoice[] {
  const groups = new Map<string, string[]>();
  for (const path of paths.filter((each) => /\.gguf$/i.test(each)).sort()) {
    const [, stem, total] = /^(.*)-\d{5}-of-(\d{5})\.gguf$/i.exec(path) ?? [];
    const key = stem === undefined ? path : `${stem} ${total}`;
    groups.set(key, [...(groups.get(key) ?? []), path]);
  }
  return [...groups.values()].map((parts) => ({ path: parts[0] ?? "", parts }));
}

/** The part of a vision model that is no language model. */
export const isProjector = (path: string): boolean => /(^|[/.-])mmproj/i.test(path);

function whole(repository: string, { path, parts }: GgufChoice): readonly string[] {
  const total = Number(/-of-(\d{5})\.gguf$/i.exec(path)?.[1] ?? 1);
  if (parts.length === total) return parts;
  throw new HubError("missing", `${repository} holds ${parts.length} of the ${total} parts of ${path}`);
}

function matches(path: string, pattern: string): boolean {
  const expression = pattern
    .replace(/[\\^$.|+()[\]{}]/g, "\\$&")
    .replace(/\*+/g, ".*")
    .replaceAll("?", ".");
  const whole = new RegExp(`^${expression}$`, "i");
  return whole.test(path) || whole.test(path.split("/").at(-1) ?? "");
}

function listOf(choices: readonly GgufChoice[], files: ReadonlyMap<string, RemoteFile>): string {
  const lines = choices.slice(0, LISTED).map(({ path, parts }) => {
    const bytes = parts.reduce((sum, part) => sum + (files.get(part)?.bytes ?? 0), 0);
    return `  ${path} (${(bytes / 1e9).toFixed(2)} GB${parts.length > 1 ? ` in ${parts.length} parts` : ""})`;
  });
  if (choices.length > LISTED) lines.push(`  and ${choices.length - LISTED} more`);
  return lines.join("\n");
}

function pickles(files: readonly RemoteFile[]): string {
  const pickle = files.find(({ path }) => /\.(bin|pt|pth|ckpt|pkl)$/.test(path));
  return pickle === undefined
    ? ""
    : `; ${pickle.path} is a pickle, which is not opened, because opening one runs code from it: look for a conversion to safetensors`;
}
