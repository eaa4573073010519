import { fromBinary } from "@bufbuild/protobuf";
import koffi from "koffi";
import { ModelProtoSchema, type NodeProto, type ValueInfoProto } from "onnx-buf";
import type { Pointer } from "./api.js";
import { library, made } from "./library.js";

/** A node that makes data of a graph leave the device that runs it. */
export interface HostNode {
  readonly name: string;
  readonly opType: string;
  readonly reason: string;
}

const FEW = 16;
const CPU_PROVIDER = "CPUExecutionProvider";
/** What ONNX Runtime inserts where one node runs on the host and the other on the device. */
const COPIES: Readonly<Record<string, string>> = {
  MemcpyToHost: "copies from the device in every run",
  MemcpyFromHost: "copies to the device in every run",
};

/**
 * Nodes of a session on a device that copy between it and the host, or that run on the host and read an input of the graph
 * that is not a number or two. What is left out reads shapes at most: nothing of the size of the data can reach it.
 * @param optimized the graph as the session runs it (`SetOptimizedModelFilePath`)
 * @param session made with "session.record_ep_graph_assignment_info"
 */
export function hostNodes(session: Pointer, optimized: Uint8Array): HostNode[] {
  const { graph } = fromBinary(ModelProtoSchema, optimized);
  const inputs = new Set(graph?.input.filter((input) => !isSmall(input)).map(({ name }) => name));
  const onHost = nodesOnHost(session);
  return (graph?.node ?? []).flatMap((node) => {
    const { name, opType } = node;
    const read = node.input.find((each) => inputs.has(each));
    if (Object.hasOwn(COPIES, opType)) return { name, opType, reason: `${COPIES[opType]}: ${between(node)}` };
    return onHost.has(name) && read !== undefined ? { name, opType, reason: `runs on the CPU and reads ${read}` } : [];
  });
}

/** Of a size that is always the same, and a few numbers. */
function isSmall({ type }: ValueInfoProto): boolean {
  const shape = type?.value.case === "tensorType" ? type.value.value.shape : undefined;
  const sizes = shape?.dim.map(({ value }) => (value.case === "dimValue" ? Number(value.value) : Number.NaN)) ?? [];
  return sizes.reduce((product, size) => product * size, 1) <= FEW;
}

const between = ({ input, output }: NodeProto): string => [...input, ...output].join(" to ");

/** Names of the nodes that were given to the CPU. */
function nodesOnHost(session: Pointer): Set<string> {
  const { api } = library();
  const list = (call: (items: BigUint64Array, count: BigUint64Array) => Pointer | null): Pointer[] => {
    const items = new BigUint64Array(1);
    const count = Number(made((_, out) => call(items, out)));
    return count === 0 ? [] : koffi.decode(items[0] ?? 0n, koffi.array("void *", count));
  };
  const text = (call: (out: BigUint64Array) => Pointer | null): string =>
    koffi.decode.string(made((_, out) => call(out)));
  const parts = list((items, count) => api.Session_GetEpGraphAssignmentInfo(session, items, count));
  return new Set(
    parts
      .filter((part) => text((out) => api.EpAssignedSubgraph_GetEpName(part, out)) === CPU_PROVIDER)
      .flatMap((part) => list((items, count) => api.EpAssignedSubgraph_GetNodes(part, items, count)))
      .map((node) => text((out) => api.EpAssignedNode_GetName(node, out))),
  );
}
