import { execFileSync } from "node:child_process";

/** Files that differ from where this branch left the main one, those that git does not know included. */
export function changedFiles(): string[] {
  const base = git("merge-base", "HEAD", mainBranch()).trim();
  const differing = git("diff", "--name-only", "--no-renames", "-z", base);
  const unknown = git("ls-files", "--others", "--exclude-standard", "-z");
  return [...differing.split("\0"), ...unknown.split("\0")].filter((path) => path !== "");
}

/** The current commit where a clone has no main branch. */
function mainBranch(): string {
  const branches = git("for-each-ref", "--format=%(refname)", "refs/heads/main", "refs/remotes/origin/main");
  return branches.split("\n")[0] || "HEAD";
}

const git = (...args: string[]): string => execFileSync("git", args, { encoding: "utf8" });
