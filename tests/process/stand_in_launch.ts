/** The launcher with another program behind it. */
import { fileURLToPath } from "node:url";
import { launch } from "../../src/launch.ts";

const main = fileURLToPath(new URL("./stand_in.ts", import.meta.url));
void launch(Deno.args, { main }).then(Deno.exit);
