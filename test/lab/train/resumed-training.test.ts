import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../../models/package-root.js";
import { lambdatapInProcess } from "../../server/lambdatap-in-process.js";
import { smallTraining } from "./small-training.js";

const { flags, out, env } = smallTraining();
const AS = ["--activation", "batch-topk", "--k", "6", "--threads", "2"];
const main = join(packageRoot(), "dist", "server", "cli", "main.js");

const checkpointOf = (name: string): string | undefined => {
  const folder = join(out(name), "training");
  return existsSync(folder) ? readdirSync(folder).find((entry) => /^checkpoint-\d+$/.test(entry)) : undefined;
};
const bytes = (name: string, file: string): Buffer => readFileSync(join(out(name), file));

/** Runs a training and kills it some steps behind its first checkpoint, wherever that is. */
async function killed(name: string): Promise<void> {
  const child: ChildProcess = spawn(process.execPath, [main, ...flags(name, ...AS, "--json")], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const steps = (): number => (existsSync(join(out(name), "curve.jsonl")) ? bytes(name, "curve.jsonl").length : 0);
  let at: number | undefined;
  while (child.exitCode === null && (at === undefined || steps() === at)) {
    if (checkpointOf(name) !== undefined) at ??= steps();
    await wait(2);
  }
  child.kill("SIGKILL");
  await ended;
}

describe("a training that was killed", () => {
  beforeAll(async () => {
    expect(await lambdatapInProcess(flags("whole", ...AS), env)).toMatchObject({ code: 0 });
    await killed("killed");
    expect(existsSync(join(out("killed"), "cfg.json"))).toBe(false);
    cpSync(out("killed"), out("copy"), { recursive: true });
  });

  test("says how to go on, and goes on from its checkpoint to the very bytes of one that was not", async () => {
    const again = await lambdatapInProcess(flags("killed", ...AS), env);
    expect(again).toMatchObject({ code: 1, err: expect.stringContaining("--resume goes on with it") });
    const { code, err } = await lambdatapInProcess(flags("killed", ...AS, "--resume"), env);
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(err).toMatch(/of which \d+ are made/);
    for (const file of ["sae_weights.safetensors", "cfg.json", "curve.jsonl", "features.jsonl", "training.json"])
      expect({ file, same: bytes("killed", file).equals(bytes("whole", file)) }).toEqual({ file, same: true });
    expect(existsSync(join(out("killed"), "training"))).toBe(false);
  });

  /** Resumes a copy whose checkpoint was changed. */
  async function resumed(name: string, change: (about: Record<string, unknown>) => unknown, ...more: string[]) {
    cpSync(out("copy"), out(name), { recursive: true });
    const path = join(out(name), "training", checkpointOf(name) ?? "", "checkpoint.json");
    writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, "utf8")))));
    const ended = await lambdatapInProcess(flags(name, ...AS, "--resume", ...more), env);
    return { ...ended, standing: checkpointOf(name) };
  }

  test.each([
    ["of another model", (about: object) => withModel(about, "0".repeat(64)), [], /another model\.content/],
    ["of another version", (about: object) => ({ ...about, version: 99 }), [], /version 99/],
    ["that is damaged", () => ({}), [], /is damaged/],
    ["with too few counters", (about: object) => ({ ...about, idle: [0] }), [], /is damaged/],
    ["without a step", (about: object) => withoutStep(about), [], /is damaged/],
    ["of another width", (about: object) => about, ["--width", "65"], /another step\.dSae: 64, not 65/],
    [
      "of another text",
      (about: object) => about,
      ["--text", join(packageRoot(), "models/calibration")],
      /another data/,
    ],
  ])("a checkpoint %s is refused, and stands", async (name, change, more, words) => {
    const { code, err, standing } = await resumed(name.replaceAll(" ", "-"), change, ...more);
    expect({ code, err }).toEqual({ code: 1, err: expect.stringMatching(words) });
    expect(standing).toBeDefined();
  });

  test("that another process is at is left to it", async () => {
    cpSync(out("copy"), out("shared"), { recursive: true });
    writeFileSync(join(out("shared"), "training", "running.pid"), String(process.ppid));
    const { code, err } = await lambdatapInProcess(flags("shared", ...AS, "--resume"), env);
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(`in use by process ${process.ppid}`) });
    expect(checkpointOf("shared")).toBeDefined();
  });

  test("whose place in the text is damaged is refused in a sentence", async () => {
    const { code, err } = await resumed("no-place", (about) => ({ ...about, source: { refill: "first" } }));
    expect({ code, err }).toEqual({
      code: 1,
      err: expect.stringContaining("does not say where in the text the run was"),
    });
  });

  test("elsewhere, it goes on and says that the last bits will differ", async () => {
    const elsewhere = (about: Record<string, unknown>) => ({
      ...about,
      environment: { ...Object(about.environment), processor: "a Z80" },
    });
    const { code, err } = await resumed("elsewhere", elsewhere);
    expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining("processor was a Z80 and is") });
  });
});

function withModel(about: object, content: string): object {
  const copy = structuredClone(about);
  if ("config" in copy && typeof copy.config === "object" && copy.config !== null && "model" in copy.config)
    Object.assign(Object(copy.config.model), { content });
  return copy;
}

function withoutStep(about: object): object {
  return { ...about, config: { ...("config" in about && Object(about.config)), step: {} } };
}

test("where the disk is full, the last checkpoint stands, and the run goes on from it when there is room", async () => {
  // Files of more than 1.1 MB cannot be written: the rows of a buffer take 1.6 MB, where the first checkpoint is made of.
  const name = "no-room";
  const limited = `ulimit -f 1100; exec "$0" "$@"`;
  const child = spawn("bash", ["-c", limited, process.execPath, main, ...flags(name, ...AS)], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let err = "";
  child.stderr.on("data", (piece) => {
    err += piece;
  });
  const code = await new Promise((resolve) => child.once("exit", resolve));
  expect(code).toBe(1);
  expect(err).toMatch(/has no room for \d+ bytes of activations more/);
  expect(await lambdatapInProcess(flags(name, ...AS), env)).toMatchObject({ code: 0 });
});
