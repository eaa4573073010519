import { parseArgs } from "node:util";
import autocannon from "autocannon";

/** Throughput of a running server under concurrent completions: `npm run load -- --target http://127.0.0.1:8080`. */
const { values } = parseArgs({
  options: {
    target: { type: "string", default: "http://127.0.0.1:8080" },
    connections: { type: "string", default: "4" },
    seconds: { type: "string", default: "10" },
    prompt: { type: "string", default: "Once upon a time" },
    "max-tokens": { type: "string", default: "32" },
    json: { type: "boolean", default: false },
  },
});

const maxTokens = Number(values["max-tokens"]);
let completionTokens = 0;
const result = await autocannon({
  url: new URL("/v1/completions", values.target).href,
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ prompt: values.prompt, max_tokens: maxTokens, ignore_eos: true }),
  connections: Number(values.connections),
  duration: Number(values.seconds),
  timeout: 120,
  setupClient: (client) => {
    client.on("body", (body) => {
      const answer: unknown = JSON.parse(String(body));
      completionTokens += generatedTokens(answer);
    });
  },
});

const report = {
  target: values.target,
  connections: Number(values.connections),
  seconds: result.duration,
  completions: result["2xx"],
  refused: result.non2xx,
  errors: result.errors + result.timeouts,
  tokensPerSecond: completionTokens / result.duration,
  latencyMs: { p50: result.latency.p50, p975: result.latency.p97_5, p99: result.latency.p99 },
};
if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  process.stdout.write(
    [
      `${report.completions} completions of ${maxTokens} tokens in ${report.seconds} s over ${report.connections} connections`,
      `  ${report.tokensPerSecond.toFixed(0)} tokens/s`,
      `  latency p50 ${report.latencyMs.p50} ms, p97.5 ${report.latencyMs.p975} ms, p99 ${report.latencyMs.p99} ms`,
      `  refused ${report.refused}, errors ${report.errors}`,
      "",
    ].join("\n"),
  );
}
process.exitCode = report.errors > 0 || report.completions === 0 ? 1 : 0;

function generatedTokens(answer: unknown): number {
  if (typeof answer !== "object" || answer === null || !("usage" in answer)) return 0;
  const { usage } = answer;
  if (typeof usage !== "object" || usage === null || !("completion_tokens" in usage)) return 0;
  return Number(usage.completion_tokens);
}
