import assert from "node:assert/strict";
import type { BudgetStanding, UsageTotals } from "../../core/methods.ts";
import { budgetText } from "./budget.ts";
import { makePaint } from "../term.ts";
import { costText } from "./usage.ts";

const paint = makePaint({ color: false });

function totals(change: Partial<UsageTotals>): UsageTotals {
  return {
    calls: 1,
    inputTokens: 1000,
    outputTokens: 20,
    cachedTokens: 5,
    cacheWriteTokens: 0,
    usd: 0,
    priced: true,
    unpricedTokens: 0,
    ...change,
  };
}

Deno.test("costText() says what is known of the cost, and what is not", () => {
  const text = costText({
    ts: 0,
    by: "model",
    from: "2026-01-01",
    to: "2026-01-07",
    total: totals({ calls: 3, usd: 1.5, priced: false, unpricedTokens: 2040 }),
    rows: [
      { name: "a:1", ...totals({ usd: 1.5 }) },
      { name: "b:\x1b[2J", ...totals({ priced: false, unpricedTokens: 1020 }) },
      {
        name: "c:1",
        ...totals({ usd: 0.002, priced: false, unpricedTokens: 1020 }),
      },
    ],
  }, paint);
  assert.equal(
    text,
    `MODEL   CALLS  IN     CACHED  OUT  COST
a:1     1      1,000  5       20   $1.50
b:␛[2J  1      1,000  5       20   no price
c:1     1      1,000  5       20   $0.002 + 1,020 tokens without a price
all     3      1,000  5       20   $1.50 + 2,040 tokens without a price
from 2026-01-01 to 2026-01-07 (UTC); limits: carapace budget
`,
  );
});

Deno.test("costText() says when there is nothing", () => {
  const nothing = { ts: 0, by: "day", total: totals({}), rows: [] };
  const text = costText(
    { ...nothing, from: "2026-01-07", to: "2026-01-07" },
    paint,
  );
  assert.equal(text, "nothing on 2026-01-07 (UTC)\n");
});

Deno.test("budgetText() shows each limit with its line, and what is near", () => {
  const row: BudgetStanding = {
    scope: "day",
    meter: "usd",
    limit: 5,
    spent: 4.5,
    reserved: 0.01,
    share: 0.9,
    because: "budgets.usdPerDay",
    resetsAt: 7_200_000,
  };
  const text = budgetText([row, {
    ...row,
    scope: "sender",
    name: "peer:net:a:1",
    meter: "unpriced_tokens",
    limit: 4_000_000,
    spent: 0,
    reserved: 0,
    share: 0,
    because: "budgets.senderShare",
  }], { paint, now: 0 });
  assert.match(
    text,
    /^day +money +\$4\.50 +\$0\.01 +\$5\.00 +90 % +budgets\.usdPerDay$/m,
  );
  assert.match(
    text,
    /^sender peer:net:a:1 +tokens without a price +0 +4,000,000 +0 %/m,
  );
  assert.match(text, /1 of 2 nearly or wholly used\nbegins anew in 2 h\n$/);
  assert.match(budgetText([], { paint, now: 0 }), /no limit/);
});
