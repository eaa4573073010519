import { once } from "node:events";
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { compileModel } from "../../models/compile.js";
import { isResidualHook } from "../../models/hooks.js";
import { kvName } from "../../models/keys-values/kv-choice.js";
import { kvBytes } from "../../models/keys-values/kv-format.js";
import { NO_FRAME } from "../../models/tokenizer/text-frame.js";
import { TokenBytes } from "../../models/tokenizer/token-bytes.js";
import { precisionProblem } from "../../models/weights/block-format.js";
import { archivedBytes, retrievingLayers } from "../cache/archive.js";
import { formOfEightBits } from "../calibration/eight-bits.js";
import { integerProblem } from "../calibration/integer-loss.js";
import { DEFAULT_SINKS, LARGEST_DEFAULT_WINDOW } from "../contract/default-geometry.js";
import { DeviceLost, OutOfMemory, SetupError } from "../contract/errors.js";
import type { ModelCard } from "../contract/generation.js";
import { Runner } from "../graphs/runner.js";
import { CPU, type Device } from "../ort/device.js";
import { gpuFailure } from "../ort/gpu-failure.js";
import { openDevice } from "../ort/open-device.js";
import type { HostNode } from "../ort/placement.js";
import { AttachedSaes } from "../saes/attached-saes.js";
import { describeFeature } from "./describe-feature.js";
import { EngineLoop } from "./loop.js";
import type { EngineCommand, EngineReport, EngineThreadOptions } from "./messages.js";
import { checkKv, openKv } from "./open-kv.js";
import { placesOf, unkeptPrefixes } from "./places.js";
import { promptGrid } from "./prompt-grid.js";
import { toFault } from "./thread-fault.js";
import { unexplainedSaes } from "./unexplained-saes.js";

/** Share of the memory, the machine's or the GPU's, that the keys and values of one text in `mode: full` may take. */
const FULL_MODE_SHARE = 0.25;
/** Below this many bytes of weights, threads wait for each other longer than they compute. */
const SINGLE_THREAD_BYTES = 32 << 20;

/** Nodes that a notice names. */
const LISTED = 4;

type Describe = Extract<EngineCommand, { type: "describe" }>;

const port = parentPort;
if (port === null) throw new Error("engine/thread.js is started by LocalEngine");
const report = (message: EngineReport): void => port.postMessage(message);
const options: EngineThreadOptions = workerData;

let device: Device = CPU;
try {
  await serve(options);
} catch (error) {
  const failure = gpuFailure(error, device);
  report({ type: "failed", fault: toFault(failure === null ? error : new SetupError(`${failure.message}.`)) });
}

async function serve({ path, id, cacheRoot, spin, saes: choice, ...asked }: EngineThreadOptions): Promise<void> {
  const onProgress = (share: number) => report({ type: "progress", share });
  const command = nextCommand();
  const most = asked.threads ?? availableParallelism();
  const opened = openDevice({
    choice: asked.device,
    ortLibrary: asked.ortLibrary,
    cacheRoot,
    threads: most,
    spin,
    onHostNodes: (nodes) => report({ type: "notice", line: leaving(nodes) }),
  });
  device = opened.device;
  if (opened.notice !== null) report({ type: "notice", line: opened.notice });
  const kind = device.isHost ? "cpu" : "cuda";
  const problem = precisionProblem(asked.precision, kind, device.bfloat16);
  if (problem !== null) throw new SetupError(problem);
  const eightBits = device.isHost
    ? await formOfEightBits(asked.precision, cacheRoot, { threads: most, spin })
    : undefined;
  const first = await command;
  if (first.type !== "tokenizer") return; // the model's tokenizer cannot be used
  const compile = (form: typeof eightBits) =>
    compileModel({
      path,
      precision: asked.precision,
      device: kind,
      bfloat16: device.bfloat16,
      eightBits: form,
      cacheRoot,
      check: (planned) => checkKv(planned, { asked: asked.kv, device: kind }),
      onProgress,
    });
  let model = await compile(eightBits);
  if (asked.precision === "q8" && model.precision === "int8") {
    const problem = await integerProblem(model, () => compile("q8-block"), first.calibration, { threads: most, spin });
    if (problem !== null) {
      report({ type: "notice", line: `${path}: ${problem}: it runs in q8-block.` });
      model = await compile("q8-block");
    }
  }
  for (const sentence of model.notices) report({ type: "notice", line: `${path}: ${sentence}.` });
  const { shape, generation } = model;
  const window = asked.window ?? Math.min(shape.trainedLength, LARGEST_DEFAULT_WINDOW);
  const sinks = asked.sinks ?? DEFAULT_SINKS;
  const eosTokenIds = generation.eosTokenIds ?? shape.eosTokenIds;
  const growing = shape.layerGeometries.filter((geometry) => shape.geometries[geometry]?.window === "lambda").length;
  const threads = asked.threads ?? (model.weights.bytes < SINGLE_THREAD_BYTES ? 1 : most);
  const names = [id, ...folderNames(path)].filter((name) => name !== "");
  const kv = openKv(model, {
    ...{ asked: asked.kv, device: kind, ids: first.calibration, threads, spin },
    onNotice: (line) => report({ type: "notice", line }),
  });
  const where = { threads, spin, device, replays: asked.cudaGraphs };
  const saes = await AttachedSaes.attach({ choice, model, folder: path, names, cacheRoot, ...where });
  const runner = new Runner(model, { window, ...where, kv, taps: saes.hooks, cuttingSaes: saes.cutting });
  runner.load({ window, sinks });
  if (first.calibration !== null)
    for (const line of unexplainedSaes(runner, saes, sinks, first.calibration)) report({ type: "notice", line });
  const bytesPerToken = Math.max(1, growing) * shape.kvHeads * kvBytes(runner.kv, shape.headDim) * 2;
  const fullLength = Math.floor((device.memoryBytes * FULL_MODE_SHARE) / bytesPerToken);
  const tokens = first.tokens === null ? null : new TokenBytes(first.tokens);
  const places = placesOf({
    ...{ shape, geometry: { window, sinks }, kv: runner.kv, asked: asked.parallel },
    // From a GPU each block crosses the bus in many pieces, which holds up the reading that it is a part of.
    ...{ prefixBytes: asked.prefixBytes ?? (device.isHost ? undefined : 0), models: asked.models },
    ...{ memoryBytes: device.memoryBytes, hostBytes: CPU.memoryBytes, weightBytes: model.weights.bytes },
  });
  const { block } = promptGrid(model, device.isHost, window, runner.kv);
  const unkept = unkeptPrefixes(places.prefixBytes, block, { shape, kv: runner.kv });
  if (unkept !== null) report({ type: "notice", line: unkept });
  const options = { ...asked, ...places, window, sinks, eosTokenIds, fullLength, tokens, saes };
  const loop = new EngineLoop(runner, options, (outbox) => report({ type: "events", outbox, counts: loop.counts }));
  listen(loop, runner, saes, asked.stallTimeoutMs);
  const card: ModelCard = {
    id: id === "" ? basename(path) : id,
    created: Math.floor(Date.now() / 1000),
    architecture: model.modelType,
    vocabSize: shape.vocabSize,
    layers: shape.layers,
    hiddenSize: shape.hiddenSize,
    trainedLength: shape.trainedLength,
    longest: shape.learnedPositions,
    window,
    sinks,
    parallel: places.parallel,
    archiveTokens:
      retrievingLayers(shape).length === 0
        ? null
        : Math.floor(asked.archiveBytes / archivedBytes(shape, model.activations)),
    precision: model.precision,
    kv: kvName(runner.kv),
    threads,
    device: device.name,
    hardware: device.description,
    bosTokenId: generation.bosTokenId ?? shape.bosTokenId,
    frame: generation.frame ?? NO_FRAME,
    eosTokenIds,
    hasTokenizer: tokens !== null,
    hasChatTemplate: tokens !== null && asked.hasChatTemplate,
    sampling: {
      ...(generation.temperature === undefined ? {} : { temperature: generation.temperature }),
      ...(generation.topP === undefined ? {} : { topP: generation.topP }),
      ...(generation.topK === undefined ? {} : { topK: generation.topK }),
      ...(generation.minP === undefined ? {} : { minP: generation.minP }),
      ...(generation.repetitionPenalty === undefined ? {} : { repetitionPenalty: generation.repetitionPenalty }),
    },
    maxNewTokens: generation.maxNewTokens ?? null,
    hooks: model.hooks.filter(isResidualHook),
    saes: saes.cards,
  };
  report({ type: "ready", card, fullLength });
}

function describe({ request, ...asked }: Describe, runner: Runner, saes: AttachedSaes): void {
  try {
    report({ type: "description", request, description: describeFeature(runner, saes, asked) });
  } catch (error) {
    const failure = gpuFailure(error, device);
    if (failure?.kind === "device_lost") throw new DeviceLost(failure.message);
    report({
      type: "not-described",
      request,
      fault: toFault(failure === null ? error : new OutOfMemory(failure.message)),
    });
  }
}

async function nextCommand(): Promise<EngineCommand> {
  if (port === null) throw new Error("there is no engine to talk to");
  const [command]: EngineCommand[] = await once(port, "message");
  if (command === undefined) throw new Error("the engine's thread got an empty message");
  return command;
}

/** Says where a graph leaves the device that runs it, which makes every run slow. */
function leaving(nodes: readonly HostNode[]): string {
  const listed = nodes.slice(0, LISTED).map(({ name, reason }) => `${name} ${reason}`);
  const more = nodes.length > LISTED ? `, and ${nodes.length - LISTED} more` : "";
  return `A graph does not run on ${device.name} alone: ${listed.join("; ")}${more}.`;
}

/** What a model is called by its folder; in a cache of Hugging Face's, two folders above the revision. */
function folderNames(folder: string): string[] {
  const repository = /models--.+--(.+)[\\/]snapshots[\\/][0-9a-f]{40}$/.exec(folder)?.[1];
  return [basename(folder), ...(repository === undefined ? [] : [repository])];
}

function listen(loop: EngineLoop, runner: Runner, saes: AttachedSaes, stallTimeoutMs: number): void {
  let stepping = false;
  /** Whatever is done when the GPU is lost, everybody is told. */
  const guarded = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      const lost = error instanceof DeviceLost ? error : gpuFailure(error, runner.device);
      if (!(lost instanceof DeviceLost) && lost?.kind !== "device_lost") throw error;
      report({ type: "lost", message: lost.message });
      port?.removeAllListeners("message");
      process.exit(1); // ends this thread alone; what is on the device is out of reach
    }
  };
  const step = (): void =>
    guarded(() => {
      stepping = loop.step();
      if (stepping) setImmediate(step);
    });
  const wake = (): void => {
    if (!stepping) step();
  };
  const act = (work: () => void): void => {
    guarded(work);
    wake();
  };
  setInterval(() => act(() => loop.dropStalled()), Math.min(1000, stallTimeoutMs / 4));
  port?.on("message", (command: EngineCommand) => {
    switch (command.type) {
      case "submit":
        return act(() => loop.submit(command.request, command.sequences));
      case "cancel":
        return act(() => loop.cancel(command.request));
      case "acknowledge":
        return act(() => loop.acknowledge(command.request, command.credit));
      case "describe":
        return guarded(() => describe(command, runner, saes));
      case "close":
        guarded(() => {
          for (const each of [loop, saes, runner, runner.device]) each[Symbol.dispose]();
        });
        // On a worker thread this ends the thread alone.
        process.exit(0);
    }
  });
}
