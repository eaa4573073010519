import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { calibrationText } from "../../../models/calibration/calibration-text.js";

const root = mkdtempSync(join(tmpdir(), "lambdatap-calibration-"));
afterAll(() => rmSync(root, { recursive: true }));

const folder = (text?: string): string => {
  const path = mkdtempSync(join(root, "model-"));
  if (text !== undefined) writeFileSync(join(path, "calibration.txt"), text);
  return path;
};

describe("the text that a model is calibrated with", () => {
  it("is the package's, a thousand words or more, where the model brings none", () => {
    const { text, own } = calibrationText(folder());
    expect(own).toBe(false);
    expect(text.split(/\s+/).length).toBeGreaterThan(1000);
  });

  it("is the model's own, in its folder or beside its GGUF file", () => {
    const path = folder("Its own words.");
    const gguf = join(path, "model.gguf");
    writeFileSync(gguf, "");
    for (const model of [path, gguf])
      expect(calibrationText(model)).toEqual({
        file: join(path, "calibration.txt"),
        text: "Its own words.",
        own: true,
      });
  });

  it("is the beginning of the model's own where that is long, as those of imatrix are, cut between characters", () => {
    const { text } = calibrationText(folder(`a${"é".repeat(100_000)}`));
    expect(text).toBe(`a${"é".repeat(32_767)}`);
  });

  it("is refused, naming the file, where the model's own is empty or no file", () => {
    expect(() => calibrationText(folder(" \n"))).toThrow(
      /calibration\.txt: it is empty: put a text there, or remove it/,
    );
    const path = folder();
    mkdirSync(join(path, "calibration.txt"));
    expect(() => calibrationText(path)).toThrow(/calibration\.txt: the file cannot be read: .*EISDIR/);
  });
});
