// A site with openid-client: logs in, tells who it is, refreshes, asks about its tokens, logs out. Answers with JSON.
import { createServer } from "node:http";
import * as oidc from "openid-client";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, AUTHENTICATION, ALGORITHM, PORT } = process.env;
const origin = `http://127.0.0.1:${PORT}`;
const redirect_uri = `${origin}/callback`;
const ways = { basic: oidc.ClientSecretBasic, post: oidc.ClientSecretPost, none: oidc.None };

const metadata = { client_secret: CLIENT_SECRET, id_token_signed_response_alg: ALGORITHM };
const config = await oidc.discovery(new URL(ISSUER), CLIENT_ID, metadata, ways[AUTHENTICATION](CLIENT_SECRET), {
  execute: [oidc.allowInsecureRequests], // the issuer is on loopback
});

let asked = {}; // what belongs to the login that is under way
let tokens = null; // of the login that has been made

const told = () => ({ claims: tokens.claims, access_token: tokens.access_token, refresh_token: tokens.refresh_token });

async function login(url) {
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier();
  asked = { pkceCodeVerifier, expectedState: oidc.randomState(), expectedNonce: oidc.randomNonce() };
  return oidc.buildAuthorizationUrl(config, {
    redirect_uri,
    scope: "openid profile offline_access urn:saoma:identities",
    code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: asked.expectedState,
    nonce: asked.expectedNonce,
    ...Object.fromEntries(url.searchParams), // prompt, max_age
  });
}

async function callback(url) {
  const answer = await oidc.authorizationCodeGrant(config, url, { ...asked, idTokenExpected: true });
  tokens = { ...answer, claims: answer.claims() };
  return told();
}

async function refresh() {
  const answer = await oidc.refreshTokenGrant(config, tokens.refresh_token);
  tokens = { ...answer, claims: answer.claims() };
  return told();
}

const pages = {
  "/login": login,
  "/callback": callback,
  "/refresh": refresh,
  "/me": () => oidc.fetchUserInfo(config, tokens.access_token, tokens.claims.sub),
  "/again": (url) => oidc.refreshTokenGrant(config, url.searchParams.get("refresh_token")),
  "/look": () => oidc.tokenIntrospection(config, tokens.access_token),
  "/give-back": () => oidc.tokenRevocation(config, tokens.refresh_token),
  "/logout": () =>
    oidc.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: `${origin}/bye`,
      state: "see you",
    }),
  "/bye": (url) => ({ state: url.searchParams.get("state") }),
};

createServer(async (request, response) => {
  const url = new URL(request.url, origin);
  try {
    const answer = await pages[url.pathname](url);
    if (answer instanceof URL) response.writeHead(302, { Location: answer.href }).end();
    else response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer ?? null));
  } catch (error) {
    const told = { name: error.name, error: error.error, code: error.code, message: error.message };
    response.writeHead(500, { "Content-Type": "application/json" }).end(JSON.stringify(told));
  }
}).listen(Number(PORT), "127.0.0.1");
