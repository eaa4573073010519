import { spawn } from "node:child_process";
import { benchFolder } from "./bench-model.js";
import { memory, memoryWithChildren } from "./memory.js";
import { argument, type Figure, median, report } from "./report.js";
import { complete, spawnServer } from "./server-process.js";

/** From the start of a server whose model is compiled to the first token over HTTP, and the memory of a server and its processes that idle. */
const ROUNDS = 5;
const model = argument("model");
const GOAL_SECONDS = model === undefined ? 2 : 3;

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
  const flags = ["--cache-dir", benchFolder("cache"), ...(model === undefined ? [] : ["--model", model])];
  const { child, url } = spawnServer(flags);
  try {
    await complete(await url, [0], 1);
    const seconds = (performance.now() - began) / 1000;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return { seconds, memory: memoryWithChildren(child.pid ?? 0) };
  } finally {
    child.kill();
  }
}

async function bareNode(): Promise<ReturnType<typeof memory>> {
  const node = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const found = memory(node.pid ?? 0);
  node.kill();
  return found;
}
