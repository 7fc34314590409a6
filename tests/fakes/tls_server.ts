/**
 * An https server on a loopback address with a certificate of its own, for
 * `good.example.com` and `next.example.com`. It counts connections apart from
 * requests, so that a test can say that nothing arrived at all.
 *
 * The key is public, guards nothing, and its authority is trusted by nobody but
 * a test that passes {@linkcode TEST_CA}.
 *
 * @module
 */
import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** The authority that signed the server's certificate. */
export const TEST_CA = `-----BEGIN CERTIFICATE-----
MIIBrDCCAVGgAwIBAgIUeuCZRwotd9UFvuZUlirkaWwPkZQwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXQ2FyYXBhY2UgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIyMTEy
MjQxWhgPMjEyNjEwMjkxMTIyNDFaMCIxIDAeBgNVBAMMF0NhcmFwYWNlIHRlc3Qg
YXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4ofENUsdi2fHpaQk
JjzaUihEgLcy9cVApEJrwIce9aU6eG50VJRBrDUJjxq5MF0iS1nMEDcPv+m4VA4V
YqNWLqNjMGEwHQYDVR0OBBYEFCPoqPUMCscQTPjvJwLnp24zelWrMB8GA1UdIwQY
MBaAFCPoqPUMCscQTPjvJwLnp24zelWrMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0P
AQH/BAQDAgIEMAoGCCqGSM49BAMCA0kAMEYCIQCd/UGuJ6vJHOFmIkqU/aRP97hn
5FDrvsZoa3g+Z3aq+wIhAKohCKTPamIyUHCkXeRcHXuXJngQu8DoEFf7tCjziy4R
-----END CERTIFICATE-----
`;

const TEST_CERT = `-----BEGIN CERTIFICATE-----
MIIB2TCCAX6gAwIBAgIUBVO3dqbvf07QABvH8fZ0yUI/PlkwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXQ2FyYXBhY2UgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIyMTEy
MjQxWhgPMjEyNjEwMjgxMTIyNDFaMB8xHTAbBgNVBAMMFENhcmFwYWNlIHRlc3Qg
c2VydmVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtcf8YeNhQB9K+JfKPZaC
VjdYdFuAT7ygWe3ON+evW+04tTvSOu+F4OYRSfrZjAgNBAnjTGu1YDcNqo3CUUxz
h6OBkjCBjzAtBgNVHREEJjAkghBnb29kLmV4YW1wbGUuY29tghBuZXh0LmV4YW1w
bGUuY29tMBMGA1UdJQQMMAoGCCsGAQUFBwMBMAkGA1UdEwQCMAAwHQYDVR0OBBYE
FH3wcFoxjTbxBXRXn2ZSwEbgb4JjMB8GA1UdIwQYMBaAFCPoqPUMCscQTPjvJwLn
p24zelWrMAoGCCqGSM49BAMCA0kAMEYCIQDqOX/bAiBCS8YgaHVuVSQVdGTnwZ19
0RuSZ20bUuZ+VAIhAPuYmTDH7ymnaAAyjyqSoKDgWrIpl4Uq06R78QODvE5I
-----END CERTIFICATE-----
`;

const TEST_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghMdr40QdZgZ6NaCm
wg5+otMt1dXtxJodPlujcv8UMKShRANCAAS1x/xh42FAH0r4l8o9loJWN1h0W4BP
vKBZ7c43569b7Ti1O9I674Xg5hFJ+tmMCA0ECeNMa7VgNw2qjcJRTHOH
-----END PRIVATE KEY-----
`;

/** What arrived. */
export interface TlsServer extends AsyncDisposable {
  port: number;
  connections: number;
  requests: {
    method: string;
    path: string;
    host: string;
    headers: IncomingMessage["headers"];
    body: string;
  }[];
}

/** Answers one request; its body was read. */
export type TlsHandler = (
  request: IncomingMessage,
  response: ServerResponse,
) => void;

/** Listens until disposed. */
export async function openTlsServer(
  handler: TlsHandler,
  options: { hostname?: string; port?: number } = {},
): Promise<TlsServer> {
  const { hostname = "127.0.0.1", port = 0 } = options;
  const sockets = new Set<Socket>();
  const server: Server = createServer(
    { cert: TEST_CERT, key: TEST_KEY },
    async (request, response) => {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      seen.requests.push({
        method: request.method ?? "",
        path: request.url ?? "",
        host: request.headers.host ?? "",
        headers: request.headers,
        body,
      });
      handler(request, response);
    },
  );
  server.on("connection", (socket: Socket) => {
    seen.connections++;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  server.on("tlsClientError", () => {});
  const listening = Promise.withResolvers<void>();
  server.listen(port, hostname, listening.resolve);
  await listening.promise;
  const seen: TlsServer = {
    port: (server.address() as AddressInfo).port,
    connections: 0,
    requests: [],
    [Symbol.asyncDispose]: async () => {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      for (const socket of sockets) socket.destroy();
      await closed.promise;
    },
  };
  return seen;
}
