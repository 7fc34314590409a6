/** Where programs begin: the service and CLI, the launcher, workers, the browser. */
export const ROOTS: readonly string[] = [
  "main.ts",
  "src/launch.ts",
  "src/keeper.ts",
  "src/plan.ts",
  "src/plugins/worker.ts",
  "src/web/app/main.ts",
];
