/** The launcher with a program behind it that asks for programs. */
import { launch } from "../../src/launch.ts";

const main = `${import.meta.dirname}/stand_in_programs.ts`;
void launch(Deno.args, { main }).then(Deno.exit);
