import { vi } from "vitest";

export interface Ended {
  /** The exit code; null where it had to be killed. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/**
 * Runs a command in this process, which takes a part of the time that a process of its own takes. Whatever is written to
 * this process's stdout and stderr meanwhile counts as the command's, so commands run one at a time.
 */
export async function capturedOutput(command: () => Promise<number>): Promise<Ended> {
  if (vi.isMockFunction(process.stdout.write)) throw new Error("another command is running in this process");
  let [out, err] = ["", ""];
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += text;
    return true;
  });
  try {
    return { code: await command(), out, err };
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
  }
}
