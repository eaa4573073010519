import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LocalEngineOptions } from "../../runtime/engine/options.js";
import type { Player } from "./arrivals.js";
import { ask, spawnServer } from "./server-process.js";

/** An engine in a process of its own, without a server. */
export async function enginePlayer(options: LocalEngineOptions): Promise<Player> {
  return playerOf("engine-player.js", JSON.stringify(options));
}

/**
 * A server in a process of its own, and a client in another.
 * @param dist of another build whose server is started; left out: this one's
 */
export async function serverPlayer(flags: readonly string[], dist?: string): Promise<Player> {
  const { child: server, url } = spawnServer(flags, { dist });
  const client = await playerOf("http-player.js", await url);
  return {
    pid: server.pid ?? 0,
    play: client.play,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      server.kill();
    },
  };
}

async function playerOf(file: string, argument: string): Promise<Player> {
  const child = fork(fileURLToPath(new URL(`./${file}`, import.meta.url)), [argument], { execArgv: [] });
  await once(child, "message");
  return {
    pid: child.pid ?? 0,
    play: (plan) => ask(child, plan),
    async [Symbol.asyncDispose]() {
      child.kill();
    },
  };
}
