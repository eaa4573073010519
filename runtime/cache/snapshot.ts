import { createHash } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import type { z } from "zod";
import { SnapshotError } from "../contract/errors.js";

/**
 * A snapshot is one run of bytes; its numbers are little-endian, as every platform is that we run on.
 *
 *   0  "LTAPSNAP"
 *   8  u32 version
 *  12  u32 bytes of the header, H
 *  16  u64 bytes of the payload, P
 *  24  header: one msgpack value
 *  24 + H  payload: raw bytes, whose order the header's reader knows
 *  24 + H + P  sha256 of all bytes before
 */
const MAGIC = new TextEncoder().encode("LTAPSNAP");
/** Raised when snapshots of before would be misread, or would go on in another way: the same model has other graphs now. */
const VERSION = 2;
/** Characters of a header that an error repeats. */
const LONGEST_PLACE = 100;
/** Bytes that one array holds in every version of Node that we run on: newer ones have larger arrays, which older ones cannot read. */
export const LARGEST_SNAPSHOT = 2 ** 32;
const PREFIX_BYTES = 24;
const CHECKSUM_BYTES = 32;

/**
 * Packs a header and a payload.
 * @param header plain data; numbers, strings, typed arrays (read back as their bytes), arrays and objects of these
 * @param fill writes all of the payload's bytes
 * @throws SnapshotError where it would be larger than an array can be.
 */
export function packSnapshot(
  header: object,
  payloadBytes: number,
  fill: (payload: Uint8Array) => void,
): Uint8Array<ArrayBuffer> {
  // As floats, numbers take the same room however large they have become.
  const packed = encode(header, { ignoreUndefined: true, forceIntegerToFloat: true });
  const checksumAt = PREFIX_BYTES + packed.length + payloadBytes;
  const total = checksumAt + CHECKSUM_BYTES;
  if (total > LARGEST_SNAPSHOT)
    throw new SnapshotError("size", `a snapshot of ${total} bytes is more than the ${LARGEST_SNAPSHOT} of one array`);
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(total).buffer);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, packed.length, true);
  view.setBigUint64(16, BigInt(payloadBytes), true);
  bytes.set(packed, PREFIX_BYTES);
  fill(bytes.subarray(PREFIX_BYTES + packed.length, checksumAt));
  bytes.set(checksum(bytes.subarray(0, checksumAt)), checksumAt);
  return bytes;
}

/**
 * The header and the payload, a view of `bytes`, of what `packSnapshot` gave.
 * @throws SnapshotError where that is not what these bytes are.
 */
export function unpackSnapshot(bytes: Uint8Array): { readonly header: unknown; readonly payload: Uint8Array } {
  if (bytes.length < PREFIX_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte))
    throw new SnapshotError("foreign", "these bytes are no snapshot: they do not begin as one does");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== VERSION)
    throw new SnapshotError(
      "version",
      `the snapshot is of version ${version}, and this build reads version ${VERSION}`,
    );
  const payloadAt = PREFIX_BYTES + view.getUint32(12, true);
  const checksumAt = payloadAt + Number(view.getBigUint64(16, true));
  const total = checksumAt + CHECKSUM_BYTES;
  if (bytes.length !== total)
    throw new SnapshotError("damaged", `the snapshot should have ${total} bytes, and has ${bytes.length}`);
  if (!checksum(bytes.subarray(0, checksumAt)).equals(bytes.subarray(checksumAt)))
    throw new SnapshotError("damaged", "the snapshot's bytes are not those that were written: its checksum differs");
  return { header: headerIn(bytes.subarray(PREFIX_BYTES, payloadAt)), payload: bytes.subarray(payloadAt, checksumAt) };
}

/** What a schema makes of a part of a header. @throws SnapshotError naming the first field that is wrong. */
export function headerPart<Part>(schema: z.ZodType<Part>, value: unknown): Part {
  const { data, error } = schema.safeParse(value);
  if (error === undefined) return data;
  const [issue] = error.issues;
  const place = issue?.path.join(".").slice(0, LONGEST_PLACE) || "as a whole";
  throw new SnapshotError(
    "damaged",
    `the snapshot's header is wrong, ${place}: ${issue?.message.slice(0, LONGEST_PLACE)}`,
  );
}

function headerIn(bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch (error) {
    throw new SnapshotError(
      "damaged",
      `the snapshot's header cannot be read: ${error instanceof Error ? error.message : error}`,
    );
  }
}

const checksum = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();
