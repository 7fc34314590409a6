// deno-lint-ignore no-import-prefix
import "npm:@modelcontextprotocol/server-filesystem@2026.8.31/dist/index.js";
