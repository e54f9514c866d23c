import { defineConfig } from "vitest/config";

// Apart from vite.config.ts: the page is built where vitest is not installed.
export default defineConfig({
  // No result depends on what else the machine does.
  test: { testTimeout: 60_000 },
});
