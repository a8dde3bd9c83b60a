// Scan login for a Node site, with openid-client. Run: npm ci && node site.js
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import * as oidc from "openid-client";

const { LOGIN_SERVER = "http://127.0.0.1:8888", LOGIN_ID = "node", LOGIN_SECRET, PORT = "9004" } = process.env;
const home = `http://127.0.0.1:${PORT}/`;
const execute = LOGIN_SERVER.startsWith("http://127.0.0.1:") ? [oidc.allowInsecureRequests] : []; // else: https
const basic = oidc.ClientSecretBasic(LOGIN_SECRET);
const config = await oidc.discovery(new URL(LOGIN_SERVER), LOGIN_ID, LOGIN_SECRET, basic, { execute });
const sessions = new Map(); // a real site keeps them in its database, and lets them end

async function answer({ method, url, headers }, show, send) {
  const { pathname } = new URL(url, home);
  const id = /\bsid=([\w-]+)/.exec(headers.cookie)?.[1];
  const session = sessions.get(id) ?? {};
  if (pathname === "/login") {
    const verifier = oidc.randomPKCECodeVerifier();
    const asked = { scope: "openid profile", state: oidc.randomState(), nonce: oidc.randomNonce() };
    const code_challenge = await oidc.calculatePKCECodeChallenge(verifier);
    const proof = { redirect_uri: `${home}callback`, code_challenge, code_challenge_method: "S256" };
    const checks = { pkceCodeVerifier: verifier, expectedState: asked.state, expectedNonce: asked.nonce };
    send(oidc.buildAuthorizationUrl(config, { ...asked, ...proof }), id, { checks });
  } else if (pathname === "/callback" && session.checks) {
    const tokens = await oidc.authorizationCodeGrant(config, new URL(url, home), session.checks);
    send(home, id, { user: tokens.claims(), id_token: tokens.id_token }); // user.sub is who it is; it never changes
  } else if (pathname === "/logout" && method === "POST") {
    // By POST: SameSite=Lax keeps other sites' forms from signing people out.
    const hint = session.id_token ? { id_token_hint: session.id_token } : {};
    send(oidc.buildEndSessionUrl(config, { ...hint, post_logout_redirect_uri: home }), id);
  } else if (session.user) {
    const name = session.user.name.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
    show(`Hello ${name}<form action="/logout" method="post"><button>Sign out</button></form>`);
  } else show('<a href="/login">Log in</a>');
}

createServer((request, response) => {
  const show = (html) => response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(html);
  const send = (address, formerId, session) => {
    sessions.delete(formerId);
    const id = randomUUID();
    if (session) sessions.set(id, session);
    const cookie = `sid=${id}; Path=/; HttpOnly; SameSite=Lax`; // on https: Secure, too
    response.writeHead(302, { Location: String(address), "Set-Cookie": cookie }).end();
  };
  answer(request, show, send).catch((error) => {
    console.error(error);
    show('That login was not begun here, or was refused. <a href="/login">Again</a>');
  });
}).listen(Number(PORT), "127.0.0.1", () => console.log(home));
