import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { story } from "../activations/embedded-lab.js";

/** A folder of texts that the embedded model reads, and a place for SAEs; gone when the tests of the file are done. */
export function smallTraining() {
  const home = mkdtempSync(join(tmpdir(), "lambdatap-train-"));
  afterAll(() => rmSync(home, { recursive: true, force: true }));
  const texts = ["fox", "miller", "old woman"].map((about, i) => {
    const path = join(home, `${i}.txt`);
    writeFileSync(path, story(260, about));
    return path;
  });
  const out = (name: string): string => join(home, name);
  return {
    home,
    texts,
    out,
    env: { LAMBDATAP_CACHE: join(home, "cache") },
    /** Flags of a training of seconds: refills lie 8 steps apart. */
    flags: (name: string, ...more: readonly string[]): string[] => [
      ...["lab", "train", "--hook", "blocks.1.hook_resid_post", "--out", out(name), "--tokens", "8k", "--passes", "2"],
      ...texts.flatMap((path) => ["--text", path]),
      ...["--buffer", "2048", "--batch", "128", "--width", "64", "--context", "64", "--feature-tokens", "500"],
      ...more,
    ],
  };
}
