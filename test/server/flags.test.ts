import { describe, expect, test } from "vitest";
import { helpText, readOptions, UsageError } from "../../server/cli/flags.js";
import {
  CacheOptions,
  CompileOptions,
  DoctorOptions,
  GenerateOptions,
  ModelsOptions,
  PullOptions,
  ServeOptions,
} from "../../server/cli/options.js";

const serve = (args: string[], env: Record<string, string> = {}) => readOptions(ServeOptions, args, env).options;

describe("options", () => {
  test("have defaults", () => {
    expect(serve([])).toMatchObject({
      host: "127.0.0.1",
      port: 8080,
      precision: "auto",
      kv: "auto",
      queueLimit: 64,
      stallTimeout: 60,
      drainTimeout: 30,
      maxBodyMb: 32,
      servedModelName: [],
      logLevel: "info",
      debug: false,
    });
    expect(serve([]).model).toEqual([]);
  });

  test("come from flags, with = or a space, lists from repeated ones", () => {
    const args = [
      "--port=0",
      "--window",
      "64",
      "--served-model-name",
      "a",
      "--served-model-name=b",
      "--debug",
      "--model",
      "./m",
    ];
    expect(serve(args)).toMatchObject({
      port: 0,
      window: 64,
      servedModelName: ["a", "b"],
      debug: true,
      model: [{ model: "./m" }],
    });
  });

  test("come from the environment, and flags win", () => {
    const env = {
      LAMBDATAP_PORT: "1",
      LAMBDATAP_SERVED_MODEL_NAME: "a, b",
      LAMBDATAP_DEBUG: "1",
      LAMBDATAP_CACHE: "/c",
      PORT: "9",
    };
    expect(serve([], env)).toMatchObject({ port: 1, servedModelName: ["a", "b"], debug: true, cacheDir: "/c" });
    expect(serve(["--port", "2", "--no-debug", "--served-model-name", "c"], env)).toMatchObject({
      port: 2,
      servedModelName: ["c"],
      debug: false,
    });
  });

  test("say where a model runs", () => {
    expect(serve([]).device).toBeUndefined();
    expect(serve(["--device", "cpu"]).device).toEqual({ kind: "cpu" });
    expect(serve(["--device", "auto"]).device).toEqual({ kind: "auto" });
    expect(serve(["--device", "cuda"]).device).toEqual({ kind: "cuda", index: 0 });
    expect(serve(["--ort-library", "/o"], { LAMBDATAP_DEVICE: "cuda:3" })).toMatchObject({
      device: { kind: "cuda", index: 3 },
      ortLibrary: "/o",
    });
  });

  test("may be negative, or none", () => {
    const { options, positionals } = readOptions(
      GenerateOptions,
      ["a prompt", "--seed", "-5", "--max-tokens", "none"],
      {},
    );
    expect(options).toMatchObject({ seed: -5, maxTokens: null });
    expect(positionals).toEqual(["a prompt"]);
  });

  test.each([
    [["--prot", "80"], "unknown flag --prot"],
    [["-p", "80"], "unknown flag -p"],
    [["--no-port"], "unknown flag --no-port"],
    [["--port"], "--port needs a value"],
    [["--port", "--host"], "--port needs a value"],
    [["--port", "http"], "--port 'http': expected a number"],
    [["--port="], "--port '': expected a number"],
    [["--port", "65536"], "--port '65536':"],
    [["--threads", "0"], "--threads '0':"],
    [["--window", "1.5"], "--window '1.5':"],
    [["--precision", "q3"], "--precision 'q3':"],
    [["--precision", "fp16"], "--precision 'fp16':"],
    [["--kv", "int8"], "--kv 'int8':"],
    [["--debug=maybe"], "--debug 'maybe':"],
    [["--no-debug=true"], "--no-debug takes no value"],
  ])("%j is refused, naming the flag", (args, message) => {
    expect(() => serve(args)).toThrow(UsageError);
    expect(() => serve(args)).toThrow(message);
  });

  test.each(["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "CUDA", "cuda:1000", ""])("no device is %j", (device) => {
    const sentence = `--device '${device}': expected cpu, cuda, cuda:<number> or auto`;
    expect(() => serve([`--device=${device}`])).toThrow(sentence);
  });

  test("of the environment are refused naming the variable", () => {
    expect(() => serve([], { LAMBDATAP_PORT: "http" })).toThrow("LAMBDATAP_PORT 'http': expected a number");
  });
});

test.each([
  ["serve", ServeOptions],
  ["generate", GenerateOptions],
  ["compile", CompileOptions],
  ["pull", PullOptions],
  ["models", ModelsOptions],
  ["doctor", DoctorOptions],
  ["cache", CacheOptions],
])("the help of %s lists every option with its default and its variable", (_, schema) => {
  const lines = helpText(schema).split("\n");
  expect(lines).toHaveLength(Object.keys(schema.shape).length);
  expect(lines.every((line) => /^ {2}--[a-z-]+.* \[LAMBDATAP_[A-Z_]+\]$/.test(line))).toBe(true);
  expect(lines.join("\n")).not.toMatch(/undefined|\[object/);
});
