// Scan login on a site's own page, as a box in it or a layer over it: docs/widget.md.
(() => {
  "use strict";

  const { origin: HOME } = new URL(document.currentScript?.src || "about:blank");
  const NEEDED = ["client_id", "redirect_uri", "state"];
  const TEXTS = [...NEEDED, "nonce", "scope", "code_challenge", "lang", "color_scheme"];
  const CALLS = ["onScanned", "onSuccess", "onExpired", "onError"];
  const CODE_SECONDS = 60; // that the code is good for
  const SILENCE = 2000; // ms without a word from a frame that has loaded: it was refused

  class SaomaLogin {
    #options;
    #box; // none for a layer
    #button;
    #shown = null; // {frame, outer, verifier, heard, scanned}
    #press = () => this.open();
    #listen = (event) => this.#hear(event);

    constructor(options) {
      this.#options = checked(options);
      this.#box = element(options, "el");
      this.#button = element(options, "button");
      this.#button?.addEventListener("click", this.#press);
      if (this.#box) this.open();
    }

    // Shows the code; again after `close`.
    open() {
      if (this.#shown) return;
      const given = { scope: "openid", color_scheme: "light", code_challenge_method: "S256", ...this.#options };
      const verifier = given.code_challenge ? "" : coded(crypto.getRandomValues(new Uint8Array(32)));
      if (verifier) given.code_challenge = challenge(verifier);
      for (const name of CALLS) delete given[name];
      const chinese = /^zh/i.test(given.lang || navigator.language);
      const frame = made("iframe", "display:block; width:100%; height:100%; min-height:320px; border:0");
      frame.title = chinese ? "扫码登录" : "Log in by scanning";
      frame.src = `${HOME}/widget?${new URLSearchParams({ ...given, origin: location.origin })}`;
      const outer = this.#box ? frame : this.#layer(frame, chinese ? "关闭" : "Close", given.color_scheme);
      const shown = (this.#shown = { frame, outer, verifier });
      frame.addEventListener("load", () => setTimeout(() => this.#miss(shown), SILENCE));
      addEventListener("message", this.#listen);
      (this.#box ?? document.body).append(outer);
      if (!this.#box) outer.showModal(); // the browser keeps the focus in it, and gives it back
    }

    close() {
      if (!this.#shown) return;
      const { outer } = this.#shown;
      this.#shown = null;
      removeEventListener("message", this.#listen);
      if (!this.#box) outer.close();
      outer.remove();
    }

    // Closes, and lets go of the button.
    destroy() {
      this.close();
      this.#button?.removeEventListener("click", this.#press);
    }

    #layer(frame, close, scheme) {
      const dark = scheme === "dark" || (scheme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
      const layer = made(
        "dialog",
        "position:fixed; inset:0; box-sizing:border-box; display:flex; width:100%; height:100%; max-width:none;" +
          "max-height:none; margin:0; padding:0; border:0; background:rgb(0 0 0 / 55%)",
      );
      const panel = made(
        "div",
        "display:flex; flex-direction:column; box-sizing:border-box; width:min(22rem, 100%); height:min(30rem, 100%);" +
          `margin:auto; padding:8px; border-radius:16px; background:${dark ? "#171f1b" : "#fff"}`,
      );
      const button = made(
        "button",
        "flex:none; align-self:flex-end; width:40px; height:40px; padding:0; border:0; border-radius:50%;" +
          `background:none; color:${dark ? "#fff" : "#15211a"}; font:24px/1 sans-serif; cursor:pointer`,
      );
      layer.setAttribute("aria-label", frame.title);
      button.type = "button";
      button.textContent = "×";
      button.setAttribute("aria-label", close);
      button.addEventListener("click", () => this.close());
      layer.addEventListener("close", () => this.close()); // by Escape
      layer.addEventListener("click", ({ target }) => target === layer && this.close());
      panel.append(button, frame);
      layer.append(panel);
      return layer;
    }

    // Only what our own frame says counts, and only while it shows a page of ours.
    #hear({ origin, source, data }) {
      const shown = this.#shown;
      if (origin !== HOME || source !== shown?.frame.contentWindow) return;
      const { saoma, code, state, iss } = data;
      shown.heard = true;
      if (saoma === "WAITING") shown.scanned = false;
      if ((saoma === "SCANNED" || saoma === "CONFIRMED") && !shown.scanned) {
        shown.scanned = true;
        this.#options.onScanned?.();
      }
      if (saoma === "INVALID") this.#options.onExpired?.();
      if (saoma === "FAILED") this.#fail("failed", "the login was not completed, the frame says why.");
      if (saoma === "CLOSE" && !this.#box) this.close();
      if (saoma === "CODE" && state === this.#options.state) this.#succeed({ code, state, iss });
    }

    #succeed(answer) {
      const { verifier } = this.#shown;
      const { onSuccess, redirect_uri: target } = this.#options;
      if (!this.#box) this.close();
      if (onSuccess) return onSuccess(verifier ? { ...answer, code_verifier: verifier } : answer);
      if (verifier) {
        const where = `Path=${new URL(target).pathname}${location.protocol === "https:" ? "; Secure" : ""}`;
        document.cookie = `saoma_code_verifier=${verifier}; Max-Age=${CODE_SECONDS}; SameSite=Lax; ${where}`;
      }
      location.assign(target + (target.includes("?") ? "&" : "?") + new URLSearchParams(answer));
    }

    #miss(shown) {
      if (shown !== this.#shown || shown.heard) return;
      const csp = `The Content-Security-Policy of this page has to allow frame-src ${HOME}.`;
      this.#fail("refused", `no code is shown. Why, says ${shown.frame.src} in a tab. ${csp}`);
    }

    #fail(code, message) {
      const error = Object.assign(wrong(message), { code });
      if (this.#options.onError) this.#options.onError(error);
      else console.error(error);
    }
  }

  const wrong = (message) => new Error(`SaomaLogin: ${message}`);

  // The options to be sent or called; what is undefined is not there.
  function checked(options = {}) {
    if (!/^http/.test(HOME)) throw wrong("load saoma.js by a <script src> of its own, not as a module.");
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const kept = Object.fromEntries(given.filter(([name]) => name !== "el" && name !== "button"));
    for (const name of NEEDED) if (!(name in kept)) throw wrong(`${name} is required.`);
    for (const [name, value] of Object.entries(kept)) {
      const kind = TEXTS.includes(name) ? "string" : CALLS.includes(name) ? "function" : "";
      if (!kind) throw wrong(`there is no option ${name}.`);
      if (typeof value !== kind || !value) throw wrong(`${name} should be a ${kind}.`);
    }
    if (options.el && options.button) throw wrong("a box (el) has no button.");
    if (!/^https?:\/\/[^/]/.test(kept.redirect_uri)) throw wrong("redirect_uri should begin with https://");
    const abroad = new URL(kept.redirect_uri).hostname !== location.hostname;
    if (abroad && !kept.code_challenge && !kept.onSuccess) {
      throw wrong("redirect_uri is on another host, where this page's cookie does not go: give code_challenge.");
    }
    return kept;
  }

  function element(options, name) {
    const given = options[name];
    const found = typeof given === "string" ? document.querySelector(given) : given;
    if (given !== undefined && !(found instanceof Element)) throw wrong(`${name} is not on the page: ${given}`);
    return found;
  }

  // A strict Content-Security-Policy forbids styles in the markup, not by script.
  function made(name, style) {
    const made = document.createElement(name);
    made.style.cssText = style;
    return made;
  }

  // base64url (RFC 4648, 5) of bytes.
  const coded = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

  // SHA-256 (FIPS 180-4) of a text that fits into one block: a page on plain http has no crypto.subtle.
  function challenge(text) {
    const primes = [];
    for (let n = 2; primes.length < 64; n += 1) if (primes.every((prime) => n % prime)) primes.push(n);
    const fraction = (value) => ((value % 1) * 2 ** 32) | 0;
    const turned = (word, ...by) => by.reduce((sum, bits) => sum ^ (word >>> bits) ^ (word << (32 - bits)), 0);
    const words = new Int32Array(64);
    [...text, "\x80"].forEach((sign, at) => (words[at >> 2] |= sign.charCodeAt() << (24 - 8 * (at & 3))));
    words[15] = 8 * text.length;
    for (let at = 16; at < 64; at += 1) {
      const [early, late] = [words[at - 15], words[at - 2]];
      words[at] = words[at - 16] + (turned(early, 7, 18) ^ (early >>> 3));
      words[at] += words[at - 7] + (turned(late, 17, 19) ^ (late >>> 10));
    }
    const sums = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
    let [a, b, c, d, e, f, g, h] = sums;
    primes.forEach((prime, at) => {
      const one = h + turned(e, 6, 11, 25) + ((e & f) ^ (~e & g)) + fraction(Math.cbrt(prime)) + words[at];
      const two = turned(a, 2, 13, 22) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    });
    [a, b, c, d, e, f, g, h].forEach((word, at) => (sums[at] += word));
    return coded([...sums].flatMap((word) => [24, 16, 8, 0].map((bits) => (word >>> bits) & 255)));
  }

  window.SaomaLogin = SaomaLogin;
})();
