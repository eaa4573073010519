import { setMaxListeners } from "node:events";
import { LocalEngine } from "../../runtime/engine/engine.js";
import type { LocalEngineOptions } from "../../runtime/engine/options.js";
import { parseCompletionRequest } from "../../server/openai/request/completion-request.js";
import { toSequences } from "../../server/openai/sequences.js";
import type { Arrivals, Plan } from "./arrivals.js";

/** An engine without a server: `node engine-player.js <options>` with an IPC channel that gives plans. */
const options: LocalEngineOptions = JSON.parse(process.argv[2] ?? "{}");
const engine = await LocalEngine.start({ prefixBytes: 0, ...options });
process.on("message", async (plan: Plan) => process.send?.(await play(plan)));
process.send?.("ready");

async function play({ requests, until }: Plan): Promise<readonly Arrivals[]> {
  const over = new AbortController();
  setMaxListeners(requests.length, over.signal);
  return Promise.all(
    requests.map(async ({ body, at = 0 }, i) => {
      await new Promise((resolve) => setTimeout(resolve, at));
      const sent = performance.now();
      const tokens: number[] = [];
      try {
        const { sequences } = await toSequences(parseCompletionRequest(body), engine);
        for await (const event of engine.generate(sequences, over.signal)) {
          if (event.type === "error") throw new Error(event.error.message);
          if (event.type === "token") tokens.push(performance.now());
          if (i === until?.request && tokens.length === until.tokens) over.abort();
        }
      } catch (error) {
        if (!over.signal.aborted) throw error;
      }
      return { sent, tokens };
    }),
  );
}
