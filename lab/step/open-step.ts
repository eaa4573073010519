import { CPU, type Device } from "../../runtime/ort/device.js";
import { CuttingStep } from "./cutting-step.js";
import { DeviceStep } from "./device-step.js";
import { JumpreluStep } from "./jumprelu-step.js";
import type { TrainingState } from "./sae-state.js";
import type { StepConfig } from "./step-config.js";
import type { TrainingStep } from "./training-step.js";

export interface StepPlace {
  readonly threads: number;
  readonly device?: Device;
}

/** The step that trains an SAE of this configuration, from a state on. */
export function openStep(config: StepConfig, state: TrainingState, { threads, device = CPU }: StepPlace): TrainingStep {
  const { activation } = config;
  if (activation.kind === "jumprelu")
    return new JumpreluStep(config, activation.l0Coefficient, state, { threads, device });
  if (!device.isHost) return new DeviceStep(config, activation, state, { threads, device });
  return new CuttingStep(config, activation, state, { threads });
}
