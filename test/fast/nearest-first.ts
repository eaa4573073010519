import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { DIST } from "./emitted-modules.js";
import type { RelatedTest } from "./related-tests.js";

/** Begins with the tests nearest to the change; of those that are equally near, with those that took the shortest last time. */
export function nearestFirst(tests: readonly RelatedTest[]): typeof BaseSequencer {
  const distances = new Map(tests.map(({ path, distance }) => [path, distance]));
  return class extends BaseSequencer {
    override async sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
      const { cache, config } = this.ctx;
      const distance = ({ moduleId }: TestSpecification) => distances.get(relative(DIST, moduleId)) ?? 0;
      const duration = ({ moduleId, project }: TestSpecification) =>
        cache.getFileTestResults(`${project.name}:${relative(config.root, moduleId)}`)?.duration ?? 0;
      return specifications.sort((a, b) => distance(a) - distance(b) || duration(a) - duration(b));
    }
  };
}
