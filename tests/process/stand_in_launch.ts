/** The launcher with another program behind it. */
import { launch } from "../../src/launch.ts";

const main = `${import.meta.dirname}/stand_in.ts`;
void launch(Deno.args, { main }).then(Deno.exit);
