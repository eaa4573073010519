import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findModel } from "../../../models/hub/find-model.js";
import { ChecksumError, HubError } from "../../../models/hub/hub-error.js";
import { pull } from "../../../models/hub/pull.js";
import { parseReference } from "../../../models/hub/reference.js";
import { inspectModel } from "../../../models/inspect.js";
import { goldenFolder } from "../../golden-tensors.js";
import { type Asked, COMMIT, cut, type FakeHub, fakeHub, REPOSITORY, refuse, sendRange } from "./fake-hub.js";

const SHARDED = goldenFolder("architectures/llama_sharded");
const golden = Object.fromEntries(
  readdirSync(SHARDED).map((name) => [name, readFileSync(join(SHARDED, name))] as const),
);
const SHARD = "model-00002-of-00003.safetensors";
const shard = golden[SHARD] ?? Buffer.alloc(0);
const others = {
  "README.md": Buffer.from("# tiny"),
  "pytorch_model.bin": Buffer.alloc(2000, 1),
  "tokenizer_config.json": Buffer.from("{}"),
  "onnx/model.onnx": Buffer.alloc(3000, 2),
  "consolidated.safetensors": Buffer.alloc(5000, 3),
};

let hub: FakeHub;
let home: string;
let env: Record<string, string>;
const reference = (text: string) => parseReference(text) ?? expect.fail(`${text} is no reference`);
const pullOf = (text: string, pattern: string | null = null) => pull(reference(text), pattern, env);
const refusalOf = async (text: string, pattern: string | null = null): Promise<string> => {
  const error: unknown = await pullOf(text, pattern).catch((thrown: unknown) => thrown);
  if (!(error instanceof HubError)) throw error;
  return error.message;
};
const filesOf = ({ asked }: FakeHub, name: string): Asked[] =>
  asked.filter(({ path, host }) => path.endsWith(name) && host === "storage");

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "lambdatap-hub-"));
  hub = await fakeHub({ ...golden, ...others });
  env = { HF_HOME: home, HF_ENDPOINT: `${hub.url}/`, HF_TOKEN: "hf_secret" };
});
afterEach(async () => {
  await hub.close();
  rmSync(home, { recursive: true });
});

/** Two models, each one file: `small` is listed as it is. */
async function other(files: Record<string, Uint8Array>): Promise<void> {
  await hub.close();
  hub = await fakeHub(files);
  env.HF_ENDPOINT = hub.url;
}

describe("a pull", () => {
  test("brings what the model needs, in Hugging Face's layout, and it opens without a network", async () => {
    const { path, fetched, files } = await pullOf(REPOSITORY);
    const needed = [
      "config.json",
      "tokenizer_config.json",
      ...Object.keys(golden).filter((name) => name.startsWith("model")),
    ];
    expect(readdirSync(path).sort()).toEqual(needed.sort());
    expect(fetched).toBe(files.reduce((sum, file) => sum + file.bytes, 0));
    const repository = join(home, "hub", "models--org--tiny");
    expect(path).toBe(join(repository, "snapshots", COMMIT));
    expect(readFileSync(join(repository, "refs", "main"), "utf8")).toBe(COMMIT);
    expect(lstatSync(join(path, SHARD)).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(path, SHARD))).toEqual(shard);
    expect(readdirSync(join(repository, "blobs"))).toHaveLength(needed.length);

    await hub.close();
    expect(findModel(REPOSITORY, env)).toEqual({ path, name: REPOSITORY });
    expect(findModel(`${REPOSITORY}@${COMMIT}`, env)).toEqual({ path, name: REPOSITORY });
    const { checks } = await inspectModel({ path, precision: "f32", largestWindow: 64, sinks: 4, quick: true });
    expect(checks.map(({ verdict }) => verdict)).not.toContain("refused");
  });

  test("a second time fetches no file", async () => {
    await pullOf(REPOSITORY);
    const sent = new Map(hub.sent);
    expect((await pullOf(`${REPOSITORY}@v1`)).fetched).toBe(0);
    expect(hub.sent).toEqual(sent);
    expect(findModel(`${REPOSITORY}@v1`, env).name).toBe(REPOSITORY);
  });

  test("goes on where the connection was cut, and where the process was", async () => {
    let cuts = 0;
    hub.intercept = (asked, response) => {
      if (asked.host !== "storage" || !asked.path.endsWith(SHARD) || cuts++ > 0) return false;
      cut(hub, SHARD, shard, 1_500, asked, response);
      return true;
    };
    await pullOf(REPOSITORY);
    expect(filesOf(hub, SHARD).map(({ range }) => range)).toEqual([undefined, "bytes=1500-"]);
    expect(hub.sent.get(SHARD)).toBe(shard.length);

    // A killed process leaves the beginning of a file.
    const blobs = join(home, "hub", "models--org--tiny", "blobs");
    const blob = readdirSync(blobs).find((name) => readFileSync(join(blobs, name)).equals(shard)) ?? "";
    rmSync(join(blobs, blob));
    writeFileSync(join(blobs, `${blob}.lambdatap.incomplete`), shard.subarray(0, 2_000));
    expect((await pullOf(REPOSITORY)).fetched).toBe(shard.length - 2_000);
    expect(filesOf(hub, SHARD).at(-1)?.range).toBe("bytes=2000-");
    expect(readFileSync(join(blobs, blob))).toEqual(shard);

    // And one that was damaged meanwhile is fetched again.
    rmSync(join(blobs, blob));
    writeFileSync(join(blobs, `${blob}.lambdatap.incomplete`), Buffer.alloc(2_000, 7));
    await pullOf(REPOSITORY);
    expect(readFileSync(join(blobs, blob))).toEqual(shard);
  });

  test("of a server without ranges begins again", async () => {
    let cuts = 0;
    hub.intercept = (asked, response) => {
      if (asked.host !== "storage" || !asked.path.endsWith(SHARD)) return false;
      if (cuts++ === 0) cut(hub, SHARD, shard, 1_500, asked, response);
      else sendRange(hub, SHARD, shard, { ...asked, range: undefined }, response);
      return true;
    };
    const { path } = await pullOf(REPOSITORY);
    expect(readFileSync(join(path, SHARD))).toEqual(shard);
  });

  test("of a connection that always breaks at the same byte ends", async () => {
    hub.intercept = (asked, response) => {
      if (asked.host !== "storage" || !asked.path.endsWith(SHARD)) return false;
      cut(hub, SHARD, shard, 1_500, { ...asked, range: undefined }, response);
      return true;
    };
    expect(await refusalOf(REPOSITORY)).toContain("cannot be reached");
    expect(existsSync(join(home, "hub", "models--org--tiny", "snapshots"))).toBe(false);
  });

  test.each([
    ["large", SHARD, "sha256"],
    ["small", "tokenizer_config.json", "git-sha1"],
  ])("of a %s file with a wrong checksum names file and sums, and leaves nothing of it", async (_, name, algorithm) => {
    const right = hub.files.get(name) ?? expect.fail();
    hub.files.set(name, Buffer.alloc(right.length, 9));
    const error: unknown = await pullOf(REPOSITORY).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ChecksumError);
    expect(error).toMatchObject({ file: name, algorithm, expected: expect.any(String), found: expect.any(String) });
    const { expected, found, message } = error instanceof ChecksumError ? error : expect.fail();
    expect(expected).not.toBe(found);
    for (const part of [name, expected, found]) expect(message).toContain(part);
    const repository = join(home, "hub", "models--org--tiny");
    expect(readdirSync(join(repository, "blobs")).filter((blob) => blob.startsWith(expected))).toEqual([]);
    expect(readdirSync(repository)).toEqual(["blobs"]);
    expect(() => findModel(REPOSITORY, env)).toThrow("lambdatap pull org/tiny");
    hub.files.set(name, right);
    await pullOf(REPOSITORY);
  });

  test("refuses a file that is longer than listed", async () => {
    hub.files.set(SHARD, Buffer.concat([shard, Buffer.from("more")]));
    expect(await refusalOf(REPOSITORY)).toContain(`${SHARD}: more than the listed ${shard.length} bytes come`);
  });

  test("of two callers at once fetches every file once", async () => {
    const [one, two] = await Promise.all([pullOf(REPOSITORY), pullOf(REPOSITORY)]);
    expect(one.path).toBe(two.path);
    expect(hub.sent.get(SHARD)).toBe(shard.length);
  });
});

describe("a hub", () => {
  test("gets the token, the host that it redirects to does not", async () => {
    await pullOf(REPOSITORY);
    const tokens = (host: Asked["host"]) =>
      new Set(hub.asked.filter((a) => a.host === host).map((a) => a.authorization));
    expect(tokens("hub")).toEqual(new Set(["Bearer hf_secret"]));
    expect(tokens("storage")).toEqual(new Set([undefined]));
  });

  test.each([
    [401, undefined, "hf_secret", ["(401)", "the token in HF_TOKEN is wrong"]],
    [401, undefined, "", ["(401)", "set HF_TOKEN to a token that may read it"]],
    [401, "RepoNotFound", "", ["has no model org/tiny", "if it is private, set HF_TOKEN"]],
    [403, "GatedRepo", "hf_secret", ["org/tiny is gated: accept its terms at"]],
    [404, undefined, "", ["has no model org/tiny with a revision 'main'"]],
    [404, "RevisionNotFound", "", ["org/tiny has no revision 'main'"]],
    [418, undefined, "", ["answers 418"]],
  ])("that answers %d %s is not asked again, and the sentence says what to do", async (status, code, token, what) => {
    env.HF_TOKEN = token;
    hub.intercept = (_, response) => {
      refuse(response, status, code);
      return true;
    };
    const sentence = await refusalOf(REPOSITORY);
    for (const part of what) expect(sentence).toContain(part);
    expect(hub.asked).toHaveLength(1);
  });

  test.each([429, 503])("that answers %d is asked again, but not for ever", async (status) => {
    let refusals = 0;
    hub.intercept = (_, response) => {
      if (refusals++ >= 2) return false;
      refuse(response, status, undefined, { "retry-after": "0" });
      return true;
    };
    await pullOf(REPOSITORY);
    refusals = Number.NEGATIVE_INFINITY;
    hub.asked.length = 0;
    expect(await refusalOf(REPOSITORY)).toContain(`(${status})`);
    expect(hub.asked).toHaveLength(6);
  });

  test("that wants a pause of an hour is not waited for", async () => {
    hub.intercept = (_, response) => {
      refuse(response, 429, undefined, { "retry-after": "3600" });
      return true;
    };
    expect(await refusalOf(REPOSITORY)).toContain("too often");
    expect(hub.asked).toHaveLength(1);
  });

  test("that is not there leaves what is in the cache, and says so", async () => {
    expect(() => findModel(REPOSITORY, env)).toThrow("lambdatap pull org/tiny fetches it");
    await pullOf(REPOSITORY);
    await hub.close();
    expect(await refusalOf(REPOSITORY)).toContain("--model org/tiny needs no network");
    const sentence = await refusalOf("org/unknown");
    expect(sentence).toContain("cannot be reached");
    expect(sentence).toContain("without it there is: org/tiny");
    env.HF_HUB_OFFLINE = "1";
    expect(await refusalOf("org/unknown")).toContain("HF_HUB_OFFLINE");
  });

  test.each([
    "../model.safetensors",
    "/etc/model.safetensors",
    "a/../../model.safetensors",
    "a\\..\\model.safetensors",
    "C:/model.safetensors",
    "a//b",
    "",
  ])("that lists the file name %j is refused before anything is fetched", async (path) => {
    hub.relist = (entries) => entries.map((entry, i) => (i === 4 ? { ...entry, path } : entry));
    expect(await refusalOf(REPOSITORY)).toContain(`lists the file name ${JSON.stringify(path)}`);
    expect(hub.sent.size).toBe(0);
  });

  test.each([
    [{ lfs: { oid: "../../../x", size: 5 } }, "without a checksum"],
    [{ oid: "HEAD" }, "without a checksum"],
    [{ size: -1 }, "no list of files"],
    [{ size: "large" }, "no list of files"],
  ])("that lists %j is refused", async (change, what) => {
    hub.relist = (entries) => entries.map((entry) => ({ ...entry, ...change }));
    expect(await refusalOf(REPOSITORY)).toContain(what);
  });

  test.each(["../shard.safetensors", "onnx/model.onnx", "pytorch_model.bin", "absent.safetensors"])(
    "whose index names %s as a shard is refused",
    async (name) => {
      await other({
        ...golden,
        ...others,
        "model.safetensors.index.json": Buffer.from(`{"weight_map":{"a":"${name}"}}`),
      });
      expect(await refusalOf(REPOSITORY)).toContain(`names "${name}", which is no safetensors file`);
    },
  );

  test("that redirects round and round is left", async () => {
    hub.intercept = (asked, response) => {
      response.writeHead(302, { location: asked.path }).end();
      return true;
    };
    expect(await refusalOf(REPOSITORY)).toContain("redirects more than 10 times");
  });

  test("that lists pages without end is left", async () => {
    hub.intercept = ({ path }, response) => {
      if (!path.includes("/tree/")) return false;
      response
        .writeHead(200, { "content-type": "application/json", link: `<${hub.url}${path}>; rel="next"` })
        .end("[]");
      return true;
    };
    expect(await refusalOf(REPOSITORY)).toContain("lists files without end");
  });

  test("whose address is none is a sentence", async () => {
    for (const address of ["mirror", "ftp://mirror"]) {
      env.HF_ENDPOINT = address;
      expect(await refusalOf(REPOSITORY)).toContain(`HF_ENDPOINT is '${address}'`);
    }
  });
});

describe("a repository of GGUF files", () => {
  const gguf = (fill: number) => Buffer.alloc(2_000, fill);
  const several = {
    "config.json": Buffer.from("{}"),
    "tiny-Q4_K_M.gguf": gguf(1),
    "tiny-Q8_0.gguf": gguf(2),
    "mmproj-tiny.gguf": gguf(3),
    "big/tiny-F16-00001-of-00002.gguf": gguf(4),
    "big/tiny-F16-00002-of-00002.gguf": gguf(5),
  };

  test("lists them, and one is chosen", async () => {
    await other(several);
    const sentence = await refusalOf(REPOSITORY);
    expect(sentence).toContain("choose one with --file");
    for (const name of ["tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "big/tiny-F16-00001-of-00002.gguf"])
      expect(sentence).toContain(name);
    expect(sentence).not.toContain("mmproj");
    expect(await refusalOf(REPOSITORY, "*Q5*")).toContain("no GGUF file that '*Q5*' fits");
    expect(await refusalOf(REPOSITORY, "tiny-q*")).toContain("several GGUF files that 'tiny-q*' fits");

    const { path } = await pullOf(REPOSITORY, "*q4_k_m*");
    expect(readdirSync(path)).toEqual(["tiny-Q4_K_M.gguf"]);
    expect(findModel(REPOSITORY, env)).toEqual({ path: join(path, "tiny-Q4_K_M.gguf"), name: REPOSITORY });
    expect(findModel(`${REPOSITORY}/tiny-Q4_K_M.gguf`, env).name).toBe(`${REPOSITORY}/tiny-Q4_K_M.gguf`);
    expect(() => findModel(`${REPOSITORY}/tiny-Q8_0.gguf`, env)).toThrow("lambdatap pull org/tiny/tiny-Q8_0.gguf");

    const split = await pullOf(`${REPOSITORY}/big/tiny-F16-00001-of-00002.gguf`);
    expect(split.files.map((file) => file.path)).toHaveLength(2);
    expect(() => findModel(REPOSITORY, env)).toThrow("holds several models");
  });

  test("where one is, takes it", async () => {
    await other({ "only.gguf": gguf(1), "mmproj-only.gguf": gguf(2) });
    expect(readdirSync((await pullOf(REPOSITORY)).path)).toEqual(["only.gguf"]);
  });

  test("where a part is missing, says so", async () => {
    await other({ "a-00001-of-00002.gguf": gguf(1) });
    expect(await refusalOf(REPOSITORY)).toContain("1 of the 2 parts of a-00001-of-00002.gguf");
  });

  test("and of pickles only: refused", async () => {
    await other({ "config.json": Buffer.from("{}"), "pytorch_model.bin": gguf(1) });
    expect(await refusalOf(REPOSITORY)).toContain("pytorch_model.bin is a pickle");
  });
});

test("more than the disk has room for is refused before anything of it is fetched", async () => {
  hub.relist = (entries) =>
    entries.map((entry) => ("lfs" in entry ? { ...entry, lfs: { oid: "a".repeat(64), size: 8e15 } } : entry));
  expect(await refusalOf(REPOSITORY)).toMatch(/GB are still to come, but the disk of .* GB free: make room/);
  expect(hub.asked.filter(({ host }) => host === "storage")).toEqual([]);
});

test("a cache folder that is a file is a sentence", async () => {
  const file = join(home, "file");
  writeFileSync(file, "");
  env.HF_HUB_CACHE = file;
  expect(await refusalOf(REPOSITORY)).toContain(`the cache folder ${file} cannot be made`);
});
