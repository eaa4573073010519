import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runScript } from "../loadtest/run-script.js";
import { Findings, toTable } from "./findings.js";
import { runParts } from "./parts.js";
import { isMet, verifyReport } from "./verify-report.js";

const MAIN = join("dist", "test", "verify-cuda", "main.js");
const out = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(out, { recursive: true }));

/** As on a machine on which a provider cannot be loaded, whatever this one has. */
const WITHOUT_GPU = ["--ort-library", join("test", "data"), "--out", out];

describe("npm run verify:cuda", () => {
  it("without a GPU says why in one line, and does nothing else", async () => {
    const ended = await runScript(MAIN, WITHOUT_GPU);
    expect(ended.code).toBe(2);
    expect(ended.out).toBe("");
    expect(ended.err).toMatch(/^no CUDA device: .+\n$/);
    expect(readdirSync(out)).toEqual([]);
  });

  it.each([
    { args: ["--only", "machine,decoding"], says: "there is no section 'decoding'; there are machine, goldens" },
    { args: ["--device", "cpu"], says: "--device must be cuda or cuda:n, not 'cpu'" },
    { args: ["--seconds", "0"], says: "--seconds must be above 0" },
    { args: ["--fast"], says: "--fast" },
  ])("refuses $args", async ({ args, says }) => {
    const ended = await runScript(MAIN, [...WITHOUT_GPU, ...args]);
    expect(ended.code).toBe(1);
    expect(ended.err).toContain(says);
    expect(readdirSync(out)).toEqual([]);
  });
});

describe("the report of a verification", () => {
  const findings = new Findings();
  const add = findings.table("Decode", ["shape", "ms"]);
  add(["1.7B", 2.34567], { goal: "share >= 0.5", met: true });
  add(["135M", 0.000123]);
  const outcome = { name: "decode", about: "Window full.", findings, seconds: 1.25 };

  it("has figures for people and for programs, goals beside them", () => {
    const { tables, about, data } = verifyReport([outcome], ["one GPU"]);
    expect(tables).toEqual([
      {
        title: "Decode",
        columns: ["shape", "ms", "goal"],
        rows: [
          ["1.7B", "2.346", "share >= 0.5: met"],
          ["135M", "1.2e-4", ""],
        ],
      },
    ]);
    expect(about).toEqual(["one GPU", "Goals met: 1 of 1.", "**decode** (1.3 s). Window full."]);
    expect(JSON.stringify(data)).toContain("2.34567");
    expect(isMet([outcome])).toBe(true);
  });

  it("names goals that were not met and sections that failed", () => {
    const missed = new Findings();
    missed.table("Endurance", ["what", "ratio"])(["steps", 1.2], { goal: "<= 1.03", met: false });
    const broken = new Findings();
    broken.failed("3 SAEs: CudaError: no memory");
    const [late, failed] = [
      { ...outcome, findings: missed },
      { ...outcome, name: "taps", findings: broken },
    ];
    expect(verifyReport([late, failed], []).about.slice(0, 3)).toEqual([
      "Goals met: 0 of 1.",
      "Not met: Endurance: steps: <= 1.03.",
      "Failed: taps: 3 SAEs: CudaError: no memory.",
    ]);
    expect(isMet([late])).toBe(false);
    expect(isMet([failed])).toBe(false);
  });

  it("a table without goals has no column for them, and what is unknown is a dash", () => {
    const plain = new Findings();
    plain.table("Machine", ["what", "is"])(["memory", null]);
    expect(plain.tables.map(toTable)).toEqual([{ title: "Machine", columns: ["what", "is"], rows: [["memory", "-"]] }]);
  });
});

describe("parts of a section", () => {
  it("run whatever became of those before them", async () => {
    const findings = new Findings();
    const done: string[] = [];
    await runParts({ expired: () => false }, findings, [
      { name: "first", run: () => void done.push("first") },
      {
        name: "second",
        run: () => {
          throw new RangeError("too far\noff");
        },
      },
      { name: "third", run: async () => void done.push("third") },
    ]);
    expect(done).toEqual(["first", "third"]);
    expect(findings.failures).toEqual(["second: RangeError: too far off"]);
  });

  it("are not run when the time is up, which is a failure", async () => {
    const findings = new Findings();
    const part = (name: string) => ({ name, run: () => findings.note(name) });
    await runParts({ expired: () => findings.notes.length > 0 }, findings, ["first", "second", "third"].map(part));
    expect(findings.notes).toEqual(["first"]);
    expect(findings.failures).toEqual(["second and 1 more: not run, the time was up"]);
  });
});
