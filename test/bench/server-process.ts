import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../server/cli/main.js", import.meta.url));

/**
 * Starts `lambdatap serve` on a free port; `url` resolves when it listens. The caller kills the child.
 * @param node flags of Node's
 * @param env variables beside this process's
 */
export function spawnServer(
  flags: readonly string[],
  node: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): { readonly child: ChildProcess; readonly url: Promise<string> } {
  const args = [...node, main, "serve", "--port", "0", "--log-level", "silent", ...flags];
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
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
