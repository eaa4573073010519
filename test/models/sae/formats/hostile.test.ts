import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import zlib from "node:zlib";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../../models/errors.js";
import { openSae } from "../../../../models/sae/formats/index.js";
import { readNpz } from "../../../../models/sae/formats/npz.js";
import { readSafetensors } from "../../../../models/sae/formats/sae-tensors.js";
import { readTorchFile } from "../../../../models/sae/formats/torch-file.js";
import { openZip } from "../../../../models/sae/formats/zip-file.js";
import { temporaryFolder, thrownBy } from "../../weights/write-safetensors.js";
import { GOLDEN } from "../golden-sae.js";
import { type Member, writeZip } from "./write-zip.js";

const HOSTILE = join(GOLDEN, "hostile");
const AUTOENCODER = join(GOLDEN, "dictionary_learning", "AutoEncoder", "trainer_0");

/** The reason for which a file is refused, which must name that file. */
async function refusal(path: string, opened: Promise<unknown>): Promise<string> {
  const error = await opened.then(
    () => new Error("not refused"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ModelFormatError)) throw error;
  expect(error.file).toBe(path);
  return error.reason;
}

/** Members of the golden autoencoder's ae.pt, after a change. */
async function archive(change: (name: string, bytes: Uint8Array) => Partial<Member>): Promise<string> {
  using zip = await openZip(join(AUTOENCODER, "ae.pt"));
  const members: Member[] = [];
  for (const name of zip.names) {
    const bytes = await zip.read(name);
    members.push({ name, bytes, ...change(name, bytes) });
  }
  return writeZip(join(temporaryFolder(), "ae.pt"), members);
}

const withPickle = (change: (bytes: Uint8Array) => Uint8Array) =>
  archive((name, bytes) => (name.endsWith("data.pkl") ? { bytes: change(bytes) } : {}));

const insert = (bytes: Uint8Array, at: number, ...added: number[]) =>
  Uint8Array.of(...bytes.subarray(0, at), ...added, ...bytes.subarray(at));

const ascii = (text: string) => [...Buffer.from(text)];

describe("a file that cannot be trusted", () => {
  const reasons: Record<string, RegExp> = {
    "ae-global-getcwd.pt": /names "posix getcwd", which no file of tensors needs/,
    "ae-missing-storage.pt": /member "ae\/data\/\d" is missing/,
    "ae-short-storage.pt": /the storage of ".*" has \d+ bytes, not \d+ numbers/,
    "ae-truncated-zip.pt": /the zip archive is damaged/,
    "params-object-array.npz": /holds pickled Python objects/,
  };

  it("is refused, every golden one, with what is wrong", async () => {
    const files = readdirSync(HOSTILE).filter((name) => !name.endsWith(".safetensors"));
    expect(files.sort()).toEqual(Object.keys(reasons).sort());
    for (const name of files) {
      const path = join(HOSTILE, name);
      expect(await refusal(path, name.endsWith(".npz") ? readNpz(path) : readTorchFile(path))).toMatch(reasons[name]!);
    }
  });

  it("is refused as weights of an SAE, too, and sound ones are not", () => {
    for (const name of readdirSync(HOSTILE).filter((file) => file.endsWith(".safetensors"))) {
      const error = thrownBy(() => readSafetensors(join(HOSTILE, name)));
      if (/^(valid-control|proto-name)/.test(name)) expect(error).toBeUndefined();
      else expect(error).toBeInstanceOf(ModelFormatError);
    }
    expect(readSafetensors(join(HOSTILE, "proto-name.safetensors")).has("__proto__")).toBe(true);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  it("names the way out for the format of old PyTorch", async () => {
    const folder = join(GOLDEN, "dictionary_learning", "AutoEncoder-legacy-file", "trainer_0");
    expect(await refusal(join(folder, "ae.pt"), openSae(folder))).toMatch(/PyTorch before 1.6.*save it again/);
  });
});

describe("a .pt file", () => {
  it("is read after it was only written anew", async () => {
    const [again, golden] = await Promise.all(
      [archive(() => ({})), join(AUTOENCODER, "ae.pt")].map(async (path) => readTorchFile(await path)),
    );
    expect(again).toEqual(golden);
    const deflated = await archive(() => ({ deflated: true }));
    expect(await readTorchFile(deflated)).toEqual(golden);
  });

  it.each([
    ["an opcode that builds objects", (b: Uint8Array) => insert(b, 2, 0x81), /opcode 0x81/],
    ["an unknown opcode", (b: Uint8Array) => insert(b, 2, 0xff), /opcode 0xff/],
    ["another protocol", (b: Uint8Array) => b.map((byte, i) => (i === 1 ? 4 : byte)), /protocol 4/],
    ["no end", (b: Uint8Array) => b.subarray(0, -1), /is cut off/],
    ["no mark", (b: Uint8Array) => insert(b, 2, 0x74), /mark that was never set/],
    ["an empty stack", (b: Uint8Array) => insert(b, 2, 0x51), /empty stack/],
    ["a memo that was not set", (b: Uint8Array) => insert(b, 2, 0x68, 200), /memo 200/],
    ["a text longer than the file", (b: Uint8Array) => insert(b, 2, 0x58, 0xff, 0xff, 0xff, 0xff), /cut off/],
    ["os.system", () => Uint8Array.of(0x80, 2, ...ascii("cos\nsystem\n"), 0x2e), /names "os system"/],
    [
      "a call of a class",
      () => Uint8Array.of(0x80, 2, ...ascii("ctorch\nFloatStorage\n"), 0x29, 0x52, 0x2e),
      /calls something/,
    ],
    ["a number in place of a dictionary", () => Uint8Array.of(0x80, 2, 0x4b, 1, 0x2e), /no dictionary of tensors/],
    [
      "a number as a tensor",
      () => Uint8Array.of(0x80, 2, 0x7d, 0x58, 1, 0, 0, 0, 0x61, 0x4b, 1, 0x73, 0x2e),
      /"a" that is not a tensor/,
    ],
  ])("with %s in its pickle is refused", async (_, change, reason) => {
    const path = await withPickle(change);
    expect(await refusal(path, readTorchFile(path))).toMatch(reason);
  });

  const [shape, strides] = [
    [0x4b, 128, 0x4b, 32, 0x86],
    [0x4b, 1, 0x4b, 128, 0x86],
  ];
  it.each([
    ["a shape that leaves its storage", [[shape, [0x4b, 128, 0x4b, 33, 0x86]]]],
    ["strides that leave its storage", [[strides, [0x4b, 2, 0x4b, 128, 0x86]]]],
    [
      "more elements than its storage",
      [
        [shape, [0x4b, 200, 0x4b, 200, 0x86]],
        [strides, [0x4b, 0, 0x4b, 0, 0x86]],
      ],
    ],
  ])("with a tensor of %s is refused", async (_, changes) => {
    const path = await withPickle((bytes) => {
      const changed = Buffer.from(bytes);
      for (const [from = [], to = []] of changes) {
        const at = changed.indexOf(Uint8Array.from(from));
        expect(at).toBeGreaterThan(0);
        changed.set(to, at);
      }
      return changed;
    });
    expect(await refusal(path, readTorchFile(path))).toMatch(/does not fit its storage of 4096/);
  });

  it.each([
    [
      "a member that occurs twice",
      /occurs twice/,
      (name: string) => (name.endsWith("data/1") ? { name: "ae/data/0" } : {}),
    ],
    [
      "an encrypted member",
      /is encrypted/,
      (name: string) => (name.endsWith("data/0") ? { flags: 1, deflated: true } : {}),
    ],
    ["an unknown compression", /method 14/, (name: string) => (name.endsWith("data/0") ? { method: 14 } : {})],
    [
      "a member said to be larger than the file",
      /damaged/,
      (name: string) => (name.endsWith("data/0") ? { claimed: { compressed: 2 ** 31, uncompressed: 2 ** 31 } } : {}),
    ],
    [
      "a bomb",
      /grow from \d+ to 4000000000 bytes/,
      (name: string) => (name.endsWith("data/0") ? { deflated: true, claimed: { uncompressed: 4_000_000_000 } } : {}),
    ],
    [
      "another byte order",
      /byte order is "big"/,
      (name: string) => (name.endsWith("byteorder") ? { bytes: Buffer.from("big") } : {}),
    ],
  ])("with %s is refused", async (_, reason, change) => {
    const path = await archive(change);
    const before = process.memoryUsage().arrayBuffers;
    expect(await refusal(path, readTorchFile(path))).toMatch(reason);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10e6);
  });

  it.runIf("crc32" in zlib)("with a bit turned in its weights is refused", async () => {
    const bytes = readFileSync(join(AUTOENCODER, "ae.pt"));
    bytes[bytes.length >> 1]! ^= 1;
    const path = join(temporaryFolder(), "ae.pt");
    writeFileSync(path, bytes);
    expect(await refusal(path, readTorchFile(path))).toMatch(/CRC-32/);
  });

  it("is refused wherever it is cut off", async () => {
    const whole = readFileSync(join(AUTOENCODER, "ae.pt"));
    const path = join(temporaryFolder(), "ae.pt");
    for (let length = 0; length < whole.length; length += 1009) {
      writeFileSync(path, whole.subarray(0, length));
      await refusal(path, readTorchFile(path));
    }
  });

  it("that is another zip archive is refused", async () => {
    const path = writeZip(join(temporaryFolder(), "x.pt"), [{ name: "a.txt", bytes: Buffer.from("a") }]);
    expect(await refusal(path, readTorchFile(path))).toMatch(/no file of torch.save/);
  });
});

describe("an .npz file", () => {
  const npy = (header: string, data: number, version = 1) => {
    const text = ascii(header.padEnd(118));
    return Uint8Array.of(0x93, ...ascii("NUMPY"), version, 0, text.length, 0, ...text, ...new Uint8Array(data));
  };
  const read = (bytes: Uint8Array, name = "a.npy") => {
    const path = writeZip(join(temporaryFolder(), "x.npz"), [{ name, bytes, deflated: true }]);
    return { path, arrays: readNpz(path) };
  };
  const header = (descr: string, shape: string) => `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }`;

  it("gives numbers of other widths", async () => {
    expect(await read(npy(header("'<f8'", "(2,)"), 16)).arrays).toEqual(
      new Map([["a", { shape: [2], values: new Float32Array(2) }]]),
    );
  });

  it.each([
    ["fewer numbers than its shape", npy(header("'<f4'", "(2, 3)"), 20), /has 20 bytes of data, but shape \[2,3\]/],
    ["an impossible shape", npy(header("'<f4'", "(4294967296, 4294967296, 4294967296)"), 0), /has 0 bytes of data/],
    ["big-endian numbers", npy(header("'>f4'", "(2,)"), 8), /of the type >f4/],
    ["records", npy(header("[('x', '<f4')]", "(2,)"), 8), /header that is not known/],
    ["another magic", Uint8Array.from(ascii("not an array at all")), /no .npy file/],
    ["an unknown version", npy(header("'<f4'", "(2,)"), 8, 9), /no .npy file/],
    ["a header that ends early", npy(header("'<f4'", "(2,)"), 8).subarray(0, 60), /cut off in its header/],
  ])("with %s is refused", async (_, bytes, reason) => {
    const { path, arrays } = read(bytes);
    expect(await refusal(path, arrays)).toMatch(reason);
  });

  it("with something else in it is refused", async () => {
    const { path, arrays } = read(Buffer.from("x"), "a.txt");
    expect(await refusal(path, arrays)).toMatch(/"a.txt" is not an array/);
  });
});

describe("a folder", () => {
  it("without an SAE is refused, naming what was looked for", async () => {
    const folder = temporaryFolder();
    expect(await refusal(folder, openSae(folder))).toMatch(
      /no SAE in this folder.*sae_weights.safetensors \(SAELens\)/,
    );
    expect(await refusal(join(folder, "x"), openSae(join(folder, "x")))).toMatch(/no such folder/);
    writeFileSync(join(folder, "f"), "");
    expect(await refusal(join(folder, "f"), openSae(join(folder, "f")))).toMatch(/this is a file/);
  });

  it("with two SAEs is refused", async () => {
    const folder = join(temporaryFolder(), "two");
    mkdirSync(folder);
    cpSync(AUTOENCODER, folder, { recursive: true });
    writeFileSync(join(folder, "sae.pt"), "");
    expect(await refusal(folder, openSae(folder))).toMatch(/two SAEs: ae.pt and sae.pt/);
  });
});
