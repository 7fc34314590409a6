/** The server of npm that does a little of everything, on standard streams. */
import "@modelcontextprotocol/server-everything/dist/index.js";
