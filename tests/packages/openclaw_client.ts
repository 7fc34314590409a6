export * from "npm:@openclaw/gateway-client@2026.9.1";
