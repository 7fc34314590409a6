/** The filesystem server of npm, on standard streams. */
import "@modelcontextprotocol/server-filesystem/dist/index.js";
