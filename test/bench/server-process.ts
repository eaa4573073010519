import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export interface ServerProcessOptions {
  /** Flags of Node's. */
  readonly node?: readonly string[];
  /** Variables beside this process's. */
  readonly env?: Readonly<Record<string, string>>;
  /** Folder of the build whose server is started; left out: this one. */
  readonly dist?: string | undefined;
}

/** Rounds of a bench repeat their prompts, and each time they are to be read. */
const PROMPTS_READ_ANEW = { LAMBDATAP_PREFIX_MB: "0" };

/** Starts `lambdatap serve` on a free port; `url` resolves when it listens. The caller kills the child. */
export function spawnServer(
  flags: readonly string[],
  { node = [], env = {}, dist = fileURLToPath(new URL("../../", import.meta.url)) }: ServerProcessOptions = {},
): { readonly child: ChildProcess; readonly url: Promise<string> } {
  const main = join(dist, "server", "cli", "main.js");
  const args = [...node, main, "serve", "--port", "0", "--log-level", "silent", ...flags];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...PROMPTS_READ_ANEW, ...env },
  });
  const url = new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (piece) => {
      text += piece;
      const found = /http:\/\/[^\s]+/.exec(text)?.[0];
      if (found !== undefined) resolve(found);
    });
    child.on("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, url };
}

/** Completes a prompt of token ids, in full. @throws Error with the server's words. */
export async function complete(url: string, prompt: readonly number[], maxTokens: number): Promise<void> {
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt, max_tokens: maxTokens, ignore_eos: true }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
}

/** Sends a child a message and waits for its answer. */
export async function ask<Answer>(child: ChildProcess, message: object): Promise<Answer> {
  child.send(message);
  return new Promise((resolve, reject) => {
    const fail = (code: number | null) => reject(new Error(`a process of this bench ended with ${code}`));
    child.once("exit", fail);
    child.once("message", (answer) => {
      child.off("exit", fail);
      resolve(answer as Answer);
    });
  });
}
