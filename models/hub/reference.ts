/** A model by its name on a hub: `org/name`, or one file of it, `org/name/file.gguf`; either with `@revision`. */
export interface HubReference {
  /** org/name */
  readonly repository: string;
  /** A branch, a tag or a commit; null: the branch main. */
  readonly revision: string | null;
  /** Path of a file in the repository. */
  readonly file: string | null;
}

const NAME = /^\w(?:[\w.-]{0,94}\w)?$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** What a text names on a hub; null where it can be no such name. */
export function parseReference(text: string): HubReference | null {
  const at = text.indexOf("@");
  const revision = at < 0 ? null : text.slice(at + 1);
  const [organisation = "", name = "", ...rest] = text.slice(0, at < 0 ? undefined : at).split("/");
  const file = rest.length > 0 ? rest.join("/") : null;
  if (!isRepositoryPart(organisation) || !isRepositoryPart(name)) return null;
  if (revision !== null && !isSafePath(revision)) return null;
  if (file !== null && !isSafePath(file)) return null;
  return { repository: `${organisation}/${name}`, revision, file };
}

/** Two hyphens stand between the parts of a name in the cache, and the hub forbids them. */
const isRepositoryPart = (part: string): boolean => NAME.test(part) && !part.includes("--") && !part.includes("..");

export const isCommit = (revision: string): boolean => COMMIT.test(revision);

/**
 * Whether a path of a repository stays in the folder that it is put in, on every system: parts between slashes, none empty
 * or all dots, no backslash, drive or control character. Names come from a server, which may be hostile.
 */
export function isSafePath(path: string): boolean {
  const parts = path.split("/");
  return (
    path.length <= 1024 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    !/[\\\u0000-\u001f\u007f-\u009f]/.test(path) &&
    parts.every((part) => !/^\.*$/.test(part) && !/^[A-Za-z]:/.test(part))
  );
}
