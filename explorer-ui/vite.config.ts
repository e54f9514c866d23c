import { defineConfig, loadEnv } from "vite";

// A daemon to develop against: `CONNECTOR_URL=http://127.0.0.1:8080 npm run dev`.
const daemon = loadEnv("", ".", "CONNECTOR_")["CONNECTOR_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the page also works below a path of a reverse proxy.
  base: "./",
  build: {
    outDir: "../connector/web/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      "/api": { target: daemon, changeOrigin: true },
      "/login": { target: daemon, changeOrigin: true },
      "/ws": { target: daemon, changeOrigin: true, ws: true },
    },
  },
});
