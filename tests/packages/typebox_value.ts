export * from "npm:typebox@1.3.17/value";
