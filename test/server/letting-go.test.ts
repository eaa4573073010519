import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import type { Engine } from "../../runtime/contract/generation.js";
import { scriptedEngine } from "./scripted-engine.js";
import { withServer } from "./with-server.js";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

/** A server answers millions of requests on one connection: nothing of an answered one may stay. */
test.each([
  ["whole", {}],
  ["as a stream", { stream: true }],
])("an answered request is let go of: %s", async (_, asked) => {
  const held: WeakRef<AbortSignal>[] = [];
  const engine = scriptedEngine();
  const watched: Engine = {
    ...engine,
    generate(sequences, signal) {
      held.push(new WeakRef(signal));
      return engine.generate(sequences, signal);
    },
  };
  await withServer(watched, async ({ url }) => {
    for (let i = 0; i < 10; i++) {
      const body = JSON.stringify({ prompt: "Once upon", max_tokens: 3, ...asked });
      const headers = { "Content-Type": "application/json" };
      await (await fetch(new URL("/v1/completions", url), { method: "POST", headers, body })).text();
    }
    let left = held.length;
    for (let tries = 0; tries < 50 && left > 2; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      collectGarbage();
      left = held.filter((signal) => signal.deref() !== undefined).length;
    }
    expect(held).toHaveLength(10);
    expect(left).toBeLessThanOrEqual(2); // the last may still be on the stack
  });
});
