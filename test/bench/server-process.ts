import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../server/cli/main.js", import.meta.url));

/** Starts `lambdatap serve` on a free port; `url` resolves when it listens. The caller kills the child. */
export function spawnServer(flags: readonly string[]): { readonly child: ChildProcess; readonly url: Promise<string> } {
  const child = spawn(process.execPath, [main, "serve", "--port", "0", "--log-level", "silent", ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
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
