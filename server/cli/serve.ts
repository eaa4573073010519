import type { Logger } from "pino";
import { packageVersion } from "../../models/package-root.js";
import type { Engine } from "../../runtime/contract/generation.js";
import { createApp } from "../app.js";
import { type HttpServer, listen } from "../http.js";
import { createLogger } from "../logger.js";
import { createModelRegistry } from "../model-registry.js";
import { createTraceServer } from "../traces/trace-server.js";
import type { ServeOptions } from "./options.js";
import { planModels, startModels } from "./served-models.js";

/** Serves until SIGTERM or SIGINT; then lets running requests end. A second signal ends at once. */
export async function serve(options: ServeOptions): Promise<number> {
  const logger = createLogger(options.logLevel);
  const engines = await startModels(planModels(options, process.env), {
    parallel: options.parallel,
    queueLimit: options.queueLimit,
    stallTimeoutMs: options.stallTimeout * 1000,
    archiveBytes: options.archiveMb * 2 ** 20,
    prefixBytes: options.prefixMb === undefined ? undefined : options.prefixMb * 2 ** 20,
    onNotice: once((line) => logger.warn(line)),
  });
  try {
    let draining = false;
    const common = {
      models: createModelRegistry(engines.map((engine) => ({ engine, aliases: options.servedModelName }))),
      logger,
      guard: { boundHost: options.host, allowedHosts: options.allowedHost, allowedOrigins: options.allowedOrigin },
    };
    const { maxTokensLimit, defaultMaxTokens, strictFields } = options;
    const limits = { maxBodyBytes: options.maxBodyMb * 2 ** 20, maxTokensLimit, defaultMaxTokens, strictFields };
    const traces = createTraceServer({ ...common, ...limits });
    const app = createApp({
      ...common,
      completions: {
        ...limits,
        pingMs: options.pingInterval * 1000,
        systemFingerprint: `b${packageVersion()}`,
      },
      isDraining: () => draining,
      traceLoad: traces.load,
    });
    const http = await listen(app.fetch, options.host, options.port, traces);
    process.stdout.write(banner(http.url, engines, options.servedModelName));
    const signal = await firstSignal();
    draining = true;
    return await drain(http, engines, options.drainTimeout * 1000, logger.child({ signal }));
  } finally {
    await Promise.all(engines.map((engine) => engine.close()));
  }
}

/** Several models say the same of one machine. */
function once(say: (line: string) => void): (line: string) => void {
  const said = new Set<string>();
  return (line) => {
    if (!said.has(line)) say(line);
    said.add(line);
  };
}

async function drain(http: HttpServer, engines: readonly Engine[], limitMs: number, logger: Logger): Promise<number> {
  const loads = engines.map((engine) => engine.load());
  const [running, waiting] = [loads.map((load) => load.running), loads.map((load) => load.waiting)].map(sum);
  logger.info({ running, waiting }, "draining; a second signal ends at once");
  for (const engine of engines)
    engine.drain().catch((error: unknown) => logger.error({ err: error }, "an engine does not drain"));
  const cut = await http.drain(limitMs, () => {
    for (const engine of engines)
      engine.close().catch((error: unknown) => logger.error({ err: error }, "an engine does not close"));
  });
  if (cut > 0) logger.warn({ cut }, "drain timeout: requests were cut off");
  else logger.info("drained");
  return cut > 0 ? 1 : 0;
}

/** Nobody listens for a second signal: the system ends the process, whatever its threads are doing. */
function firstSignal(): Promise<NodeJS.Signals> {
  const names = ["SIGTERM", "SIGINT"] as const;
  return new Promise((resolve) => {
    const heard = (name: NodeJS.Signals) => {
      for (const each of names) process.off(each, heard);
      resolve(name);
    };
    for (const name of names) process.on(name, heard);
  });
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

function banner(url: string, engines: readonly Engine[], aliases: readonly string[]): string {
  const asked = engines.at(-1)?.card;
  const example = {
    ...(engines.length > 1 ? { model: asked?.id } : {}),
    prompt: asked?.hasTokenizer ? "Once upon a time" : [1, 2, 3],
    max_tokens: 200,
  };
  return [
    `lambdatap ${packageVersion()} at ${url}`,
    ...engines.flatMap(({ card }) => {
      const {
        id,
        architecture,
        window,
        sinks,
        precision,
        kv,
        threads,
        device,
        hardware,
        trainedLength,
        longest,
        saes,
      } = card;
      const limit = longest === null ? "no length limit" : `texts of ${longest} tokens at most`;
      const read = saes.map((sae) => sae.id).join(", ") || "none (--sae <folder> attaches one)";
      return [
        `  model    ${[id, ...aliases].join(", ")} (${architecture}, trained on ${trainedLength} tokens)`,
        `  window   ${window} tokens and ${sinks} sinks, ${limit}`,
        `  runs in  ${precision}, keys and values in ${kv}, on ${hardware === "" ? `${threads} ${threads === 1 ? "thread" : "threads"}` : `${device} (${hardware})`}`,
        `  SAEs     ${read}`,
      ];
    }),
    `  try      curl ${url}/v1/completions --json '${JSON.stringify(example)}'`,
    "",
  ].join("\n");
}
