/**
 * Makes the page's script of its source; `--check` only compares.
 *
 * @module
 */
const here = (path: string) => new URL(`../../${path}`, import.meta.url);

async function bundle(): Promise<string> {
  await Deno.mkdir(here("tests/.tmp"), { recursive: true });
  const made = here("tests/.tmp/app.js");
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["bundle", "--quiet", "--platform", "browser", "--minify"],
      ...["--output", made.pathname, here("src/web/app/main.ts").pathname],
    ],
  }).output();
  if (!success) throw new SyntaxError(new TextDecoder().decode(stderr));
  return await Deno.readTextFile(made);
}

async function main(args: readonly string[]): Promise<number> {
  const file = here("src/web/app.js");
  const wanted = await bundle();
  if (!args.includes("--check")) {
    await Deno.writeTextFile(file, wanted);
    return 0;
  }
  if (await Deno.readTextFile(file) === wanted) return 0;
  console.error(
    "error: src/web/app.js is not made of src/web/app\nhint:  deno task ui",
  );
  return 1;
}

if (import.meta.main) void main(Deno.args).then(Deno.exit);
