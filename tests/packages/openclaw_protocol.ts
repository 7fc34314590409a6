export * from "npm:@openclaw/gateway-protocol@2026.9.1/schema";
