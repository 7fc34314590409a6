// deno-lint-ignore no-import-prefix
import "npm:@modelcontextprotocol/server-everything@2026.8.31/dist/index.js";
