/**
 * `carapace chat` at a real terminal: a pseudo-terminal made by `script`, where
 * that program is there.
 */
import assert from "node:assert/strict";
import { EXIT } from "../../src/cli/verb.ts";
import type { TurnEventBody } from "../../src/core/turn.ts";
import { FakeGateway, type FakeRun, untilAborted } from "../fakes/gateway.ts";

const root = new URL("../../", import.meta.url);
const CTRL_C = "\x03";
const CTRL_D = "\x04";
const UP = "\x1b[A";
const WAIT_MS = 15_000;

/** util-linux's `script`; other systems' takes other arguments. */
function hasScript(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    const { success, stdout } = new Deno.Command("script", {
      args: ["--version"],
    }).outputSync();
    return success && new TextDecoder().decode(stdout).includes("util-linux");
  } catch {
    return false;
  }
}

/** A terminal with the chat in it. */
class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #pump: Promise<void>;
  #shown = "";
  #from = 0;
  #wake = Promise.withResolvers<void>();

  constructor(options: { port: number; stateDir: string; args?: string[] }) {
    const { port, stateDir, args = [] } = options;
    const command = [
      "exec",
      Deno.execPath(),
      "run --no-prompt --frozen --cached-only --no-remote --no-check",
      `--allow-net=127.0.0.1:${port}`,
      `--allow-read=${stateDir} --allow-write=${stateDir}`,
      "--allow-env=CARAPACE_STATE_DIR,CARAPACE_PORT,CARAPACE_TOKEN,NO_COLOR,TERM",
      "--ignore-env",
      "main.ts chat",
      ...args,
    ].join(" ");
    this.#child = new Deno.Command("script", {
      args: ["-q", "-e", "-c", command, "/dev/null"],
      cwd: root,
      env: {
        CARAPACE_STATE_DIR: stateDir,
        CARAPACE_PORT: String(port),
        CARAPACE_TOKEN: "test-token",
        NO_COLOR: "1",
        TERM: "xterm",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#pump = this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      this.#shown += decoder.decode(chunk, { stream: true });
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    }
    this.#wake.resolve();
  }

  async type(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** Waits for a text after what was waited for before. */
  async see(text: string): Promise<void> {
    const until = AbortSignal.timeout(WAIT_MS);
    while (true) { // ends with the text, or with the time
      const at = this.#shown.indexOf(text, this.#from);
      if (at !== -1) {
        this.#from = at + text.length;
        return;
      }
      assert.ok(
        !until.aborted,
        `waited for ${JSON.stringify(text)}, saw ${
          JSON.stringify(this.#shown.slice(this.#from))
        }`,
      );
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, 100);
      await Promise.race([this.#wake.promise, promise]);
      clearTimeout(timer);
    }
  }

  async exitCode(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#pump;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#child.status;
    await this.#pump;
  }
}

const USAGE = {
  inputTokens: 12,
  outputTokens: 34,
  cachedTokens: 0,
  cacheWriteTokens: 0,
};

let approve: ((answer: string) => void) | undefined;

async function* script(run: FakeRun): AsyncGenerator<TurnEventBody> {
  if (run.message.startsWith("/approve")) {
    approve?.(run.message);
    yield { kind: "reply", text: "Noted", model: "carapace" };
  } else if (run.message === "slow") {
    yield { kind: "text", text: "working on it" };
    await untilAborted(run.signal);
  } else if (run.message === "stuck") {
    yield { kind: "text", text: "hard at it" };
    await untilAborted(new AbortController().signal); // does not hear the stop
  } else if (run.message === "ask") {
    const call = { callId: "c", name: "message_send" };
    yield {
      ...call,
      kind: "ask",
      approvalId: "apr_1",
      args: { to: "bob\x1b[2J" },
      question: "Send a message to bob?",
      answers: ["allow-once", "deny"],
      card: [],
      expiresAt: Date.now() + 60_000,
    };
    const { promise, resolve } = Promise.withResolvers<string>();
    approve = resolve;
    const text = await promise;
    yield { ...call, kind: "tool_result", text, isError: false };
    yield { kind: "reply", text: "Sent", model: "fake:x" };
  } else {
    const text = `You said \x1b[31m${run.message}`;
    yield { kind: "text", text };
    yield { kind: "usage", usage: USAGE };
    yield { kind: "reply", text, model: "fake:x" };
  }
}

Deno.test({
  name: "chat at a terminal",
  ignore: !hasScript(),
  // `stuck` never ends; its generator is left behind.
  sanitizeOps: false,
  fn: async (t) => {
    await Deno.mkdir(new URL("tests/.tmp", root), { recursive: true });
    const stateDir = await Deno.makeTempDir({
      dir: new URL("tests/.tmp", root).pathname,
    });
    await using gateway = new FakeGateway({ script });
    const open = () => new Terminal({ port: gateway.port, stateDir });
    await t.step(
      "shows a turn, disarmed, and remembers what was typed",
      async () => {
        await using terminal = open();
        await terminal.see("› ");
        await terminal.type("hello\r");
        await terminal.see("You said ␛[31mhello");
        await terminal.see("12 in · 34 out · ");
        await terminal.see("› ");
        await terminal.type(`${UP}\r`);
        await terminal.see("You said ␛[31mhello");
        await terminal.see("› ");
        await terminal.type(CTRL_D);
        assert.equal(await terminal.exitCode(), EXIT.ok);
        const path = `${stateDir}/chat_history`;
        assert.equal(await Deno.readTextFile(path), "hello\n");
        const { mode } = await Deno.stat(path);
        assert.equal((mode ?? 0) & 0o777, 0o600);
      },
    );
    await t.step(
      "Ctrl-C stops the turn; twice at the prompt leaves",
      async () => {
        await using terminal = open();
        await terminal.see("› ");
        await terminal.type("slow\r");
        await terminal.see("working on it");
        await terminal.type(CTRL_C);
        await terminal.see("stopped");
        await terminal.see("› ");
        await terminal.type(CTRL_C);
        await terminal.see("Ctrl-C again leaves");
        await terminal.see("› ");
        await terminal.type(CTRL_C);
        assert.equal(await terminal.exitCode(), EXIT.interrupted);
      },
    );
    await t.step("Ctrl-C twice leaves a turn that does not stop", async () => {
      await using terminal = open();
      await terminal.see("› ");
      await terminal.type("stuck\r");
      await terminal.see("hard at it");
      await terminal.type(CTRL_C);
      await terminal.see("Ctrl-C again leaves");
      await terminal.type(CTRL_C);
      assert.equal(await terminal.exitCode(), EXIT.interrupted);
    });
    await t.step(
      "an ask is answered in place, by what is typed after it",
      async () => {
        await using terminal = open();
        await terminal.see("› ");
        await terminal.type("ask\r");
        await terminal.see("? Send a message to bob?");
        await terminal.see('message_send {"to":"bob\\u001b[2J"}');
        await terminal.see("allow? ");
        await terminal.see("› ");
        await new Promise((resolve) => setTimeout(resolve, 250)); // a person reads
        await terminal.type("maybe\r");
        await terminal.see("allow? ");
        await terminal.see("› ");
        await new Promise((resolve) => setTimeout(resolve, 250));
        await terminal.type("y\r");
        await terminal.see("/approve apr_1 allow-once");
        await terminal.see("Sent");
        await terminal.see("› ");
        await terminal.type("/quit\r");
        assert.equal(await terminal.exitCode(), EXIT.ok);
      },
    );
    await Deno.remove(stateDir, { recursive: true });
  },
});
