import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { benchFolder } from "./bench-model.js";
import { memory } from "./memory.js";
import { argument, type Figure, median, report } from "./report.js";

/** From the start of a server whose model is compiled to the first token over HTTP, and the memory of a server that idles. */
const ROUNDS = 5;
const GOAL_SECONDS = 2;
const main = fileURLToPath(new URL("../../server/cli/main.js", import.meta.url));
const model = argument("model");

await round();
const rounds: Awaited<ReturnType<typeof round>>[] = [];
for (let i = 0; i < ROUNDS; i++) rounds.push(await round());
const seconds = median(rounds.map((each) => each.seconds));
const bare = await bareNode();
const of = (key: "rss" | "anonymous" | "file") => median(rounds.map((each) => each.memory[key])) / 1e6;
const figures: Figure[] = [
  {
    name: "start to first token",
    value: seconds,
    unit: "s",
    beside: `goal < ${GOAL_SECONDS} s`,
    met: seconds < GOAL_SECONDS,
  },
  {
    name: "idle memory, anonymous (RssAnon)",
    value: of("anonymous"),
    unit: "MB",
    beside: `bare node ${(bare.anonymous / 1e6).toFixed(1)} MB`,
  },
  {
    name: "idle memory, files (RssFile)",
    value: of("file"),
    unit: "MB",
    beside: `bare node ${(bare.file / 1e6).toFixed(1)} MB`,
  },
];
report(`startup: ${model ?? "embedded model"}`, figures);

async function round(): Promise<{ seconds: number; memory: ReturnType<typeof memory> }> {
  const began = performance.now();
  const flags = [
    "serve",
    "--port",
    "0",
    "--log-level",
    "silent",
    "--cache-dir",
    benchFolder("cache"),
    ...(model === undefined ? [] : ["--model", model]),
  ];
  const server = spawn(process.execPath, [main, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const url = await firstUrl(server);
    const answer = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt: [0], max_tokens: 1 }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    await answer.text();
    const seconds = (performance.now() - began) / 1000;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return { seconds, memory: memory(server.pid ?? 0) };
  } finally {
    server.kill();
  }
}

function firstUrl(server: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    server.stdout?.on("data", (piece) => {
      text += piece;
      const url = /http:\/\/[^\s]+/.exec(text)?.[0];
      if (url !== undefined) resolve(url);
    });
    server.on("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
}

async function bareNode(): Promise<ReturnType<typeof memory>> {
  const node = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const found = memory(node.pid ?? 0);
  node.kill();
  return found;
}
