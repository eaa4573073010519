import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ModelFormatError } from "../../models/errors.js";
import { isJsonObject, type JsonObject } from "../../models/model-file.js";
import { openSafetensors } from "../../models/weights/safetensors.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { stateShapes, type TrainingState } from "../step/sae-state.js";
import type { TrainingEnvironment } from "./environment.js";
import { float32Bytes, safetensorsFile } from "./safetensors-file.js";
import { TrainingConfig } from "./training-config.js";
import { writeFile } from "./write-file.js";

/** Raised when a checkpoint would be read otherwise. */
const VERSION = 1;
const TENSORS = "state.safetensors";
const ABOUT = "checkpoint.json";
const FOLDER = /^checkpoint-(\d+)$/;

const About = z.object({
  version: z.int(),
  config: TrainingConfig,
  environment: z.record(z.string(), z.string()),
  step: z.int(),
  idle: z.array(z.int()),
  threshold: z.number().nullable(),
  source: z.custom<JsonObject>(isJsonObject),
});

/** A training at a refill of its buffer: all that the next step depends on. */
export interface Checkpoint {
  readonly config: TrainingConfig;
  readonly environment: TrainingEnvironment;
  readonly state: TrainingState;
  /** Of the source of batches. */
  readonly source: JsonObject;
}

/** Checkpoints of a run, of which the last stands: a folder each, which appears whole. */
export class Checkpoints {
  constructor(readonly folder: string) {}

  /** The number of steps of the last one; null: there is none. */
  get last(): number | null {
    const steps = this.#steps();
    return steps.length === 0 ? null : Math.max(...steps);
  }

  /** @throws SetupError where it cannot be written; the one before stands then. */
  write({ config, environment, state, source }: Checkpoint): void {
    const place = join(this.folder, `checkpoint-${state.step}`);
    const unfinished = `${place}.new`;
    const about: z.infer<typeof About> = {
      ...{ version: VERSION, config, environment: { ...environment }, source },
      ...{ step: state.step, idle: [...state.idle], threshold: state.threshold },
    };
    const shapes = stateShapes(config.step);
    const tensors = new Map(
      [...state.tensors].map(([name, values]) => [
        name,
        { shape: shapes.get(name) ?? [], bytes: float32Bytes(values) },
      ]),
    );
    try {
      rmSync(unfinished, { recursive: true, force: true });
      mkdirSync(unfinished, { recursive: true });
      writeFile(join(unfinished, TENSORS), safetensorsFile(tensors, "F32"));
      writeFile(join(unfinished, ABOUT), JSON.stringify(about));
      renameSync(unfinished, place);
    } catch (error) {
      rmSync(unfinished, { recursive: true, force: true });
      const reason = error instanceof Error ? error.message : String(error);
      const kept = this.last === null ? "" : `; the checkpoint of step ${this.last} stands`;
      throw new SetupError(`the checkpoint of step ${state.step} cannot be written: ${reason}${kept}`);
    }
    for (const step of this.#steps()) if (step !== state.step) this.#remove(step);
  }

  /** The last one. @throws SetupError where there is none, or it is damaged or of another version. */
  read(): Checkpoint {
    const { last } = this;
    if (last === null) throw new SetupError(`there is no checkpoint in ${this.folder}`);
    const place = join(this.folder, `checkpoint-${last}`);
    const about = readAbout(join(place, ABOUT));
    return {
      config: about.config,
      environment: about.environment,
      state: {
        ...{ step: about.step, threshold: about.threshold, idle: Uint32Array.from(about.idle) },
        tensors: readTensors(join(place, TENSORS), about.config),
      },
      source: about.source,
    };
  }

  #steps(): number[] {
    try {
      return readdirSync(this.folder).flatMap((name) => FOLDER.exec(name)?.slice(1).map(Number) ?? []);
    } catch {
      return [];
    }
  }

  #remove(step: number): void {
    rmSync(join(this.folder, `checkpoint-${step}`), { recursive: true, force: true });
  }
}

function readAbout(path: string): z.infer<typeof About> {
  const read = (): unknown => {
    try {
      return JSON.parse(readFileSync(path, "utf8"));
    } catch {
      return null;
    }
  };
  const content = read();
  const { data: version } = z.object({ version: z.int() }).safeParse(content);
  if (version !== undefined && version.version !== VERSION)
    throw new SetupError(`${path} is a checkpoint of version ${version.version}, and this build reads ${VERSION}`);
  const about = About.safeParse(content);
  if (about.success && about.data.idle.length === about.data.config.step.dSae) return about.data;
  throw new SetupError(`${path} is damaged: the run cannot go on from it`);
}

function readTensors(path: string, config: TrainingConfig): Map<string, Float32Array> {
  try {
    using file = openSafetensors(path);
    return new Map(
      Array.from(stateShapes(config.step), ([name, shape]) => {
        const stored = file.tensors.get(name)?.shape ?? [];
        if (`${stored}` !== `${shape}`)
          throw new ModelFormatError(path, `tensor "${name}" is [${stored}], not [${shape}]`);
        return [name, file.readF32(name)] as const;
      }),
    );
  } catch (error) {
    if (!(error instanceof ModelFormatError)) throw error;
    throw new SetupError(`the run cannot go on: ${error.message}`);
  }
}
