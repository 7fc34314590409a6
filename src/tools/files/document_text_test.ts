import assert from "node:assert/strict";
import { strToU8, zipSync } from "fflate";
import { AppError } from "../../core/errors.ts";
import { ARCHIVE_LIMITS, unzipChosen } from "./archive.ts";
import { documentText, kindOf } from "./document_text.ts";

const { signal } = new AbortController();
const bytes = (text: string) => new TextEncoder().encode(text);

function zip(files: Record<string, string>): Uint8Array<ArrayBuffer> {
  const entries = Object.entries(files)
    .map(([name, text]) => [name, strToU8(text)] as const);
  return new Uint8Array(zipSync(Object.fromEntries(entries)));
}

/** A small PDF of one page. */
export function pdf(words: string): Uint8Array<ArrayBuffer> {
  const stream = `BT /F1 18 Tf 10 100 Td (${words}) Tj ET`;
  return bytes(
    `%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 144]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj
4 0 obj<</Length ${stream.length}>>stream
${stream}
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>`,
  );
}

Deno.test("documentText() reads what people keep", async (t) => {
  const rows: [name: string, bytes: Uint8Array<ArrayBuffer>, want: string][] = [
    ["a.txt", bytes("plain\ntext"), "plain\ntext"],
    ["a.pdf", pdf("Hello PDF"), "Hello PDF"],
    [
      "a.docx",
      zip({
        "word/document.xml":
          `<w:document><w:body><w:p><w:r><w:t>One &amp; two</w:t></w:r></w:p><w:p><w:r><w:t xml:space="preserve">a</w:t><w:tab/><w:t>b &#8364;</w:t></w:r></w:p></w:body></w:document>`,
        "word/styles.xml": "<w:t>not this</w:t>",
      }),
      "One & two\na\tb €",
    ],
    [
      "a.xlsx",
      zip({
        "xl/sharedStrings.xml":
          "<sst><si><t>Name</t></si><si><r><t>Sum</t></r><r><t>me</t></r></si></sst>",
        "xl/worksheets/sheet1.xml":
          `<worksheet><sheetData><row><c r="A1" t="s"><v>0</v></c><c t="s"><v>1</v></c></row><row><c><v>3</v></c><c t="inlineStr"><is><t>x</t></is></c></row></sheetData></worksheet>`,
      }),
      "[1]\nName\tSumme\n3\tx",
    ],
    [
      "a.pptx",
      zip({
        "ppt/slides/slide10.xml": "<p><a:p><a:t>last</a:t></a:p></p>",
        "ppt/slides/slide2.xml": "<p><a:p><a:t>first</a:t></a:p></p>",
      }),
      "[2]\nfirst\n\n[10]\nlast",
    ],
    [
      "a.odt",
      zip({
        "content.xml":
          "<office:document-content><text:p>One</text:p><text:p>Two</text:p></office:document-content>",
      }),
      "One\nTwo",
    ],
  ];
  for (const [name, data, want] of rows) {
    await t.step(name, async () => {
      assert.equal(await documentText(name, data, signal), want);
    });
  }
});

Deno.test("documentText() refuses what is no text, in words", async (t) => {
  const rows: [name: string, bytes: Uint8Array<ArrayBuffer>][] = [
    ["a.bin", new Uint8Array([1, 0, 2])],
    ["a.zip", zip({ x: "y" })],
    ["a.docx", bytes("PK\x03\x04 and then nothing of the kind")],
    ["empty.docx", zip({ "word/other.xml": "x" })],
    ["a.pdf", bytes("%PDF-1.7 no more")],
  ];
  for (const [name, data] of rows) {
    await t.step(name, async () => {
      await assert.rejects(
        documentText(name, data, signal),
        (error) => error instanceof AppError && error.code === "bad_input",
      );
    });
  }
});

Deno.test("documentText() follows no entity of a document's own", async () => {
  const data = zip({
    "word/document.xml":
      `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b "bbbb">]><w:t>&a;&b;&#0;&#x110000;</w:t>`,
  });
  assert.equal(
    await documentText("a.docx", data, signal),
    "&a;&b;&#0;&#x110000;",
  );
});

Deno.test("unzipChosen() stops a bomb before it is whole", async () => {
  const bomb = zip({
    "word/document.xml": "0".repeat(ARCHIVE_LIMITS.entryBytesMax + 1),
  });
  assert.ok(bomb.length < 100_000);
  const before = Deno.memoryUsage().external;
  await assert.rejects(
    documentText("a.docx", bomb, signal),
    (error) => error instanceof AppError && error.code === "too_large",
  );
  assert.ok(Deno.memoryUsage().external - before < 64_000_000);
  const many: Record<string, string> = {};
  for (let n = 0; n <= ARCHIVE_LIMITS.entriesMax; n++) many[`x/${n}`] = "";
  await assert.rejects(
    unzipChosen(zip(many), () => false),
    (error) => error instanceof AppError && error.code === "too_large",
  );
});

Deno.test("kindOf() looks at bytes first", () => {
  assert.equal(kindOf("a.txt", bytes("%PDF-1.7")), "pdf");
  assert.equal(kindOf("a.docx", bytes("hello")), "text");
});
