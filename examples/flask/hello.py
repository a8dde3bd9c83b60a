"""Scan login for a Flask site, with Authlib. Run: python3 hello.py"""

import os
from urllib.parse import urlencode

from authlib.integrations.flask_client import OAuth, OAuthError
from flask import Flask, redirect, session
from markupsafe import escape

SERVER = os.environ.get("LOGIN_SERVER", "http://127.0.0.1:8888")
PORT = int(os.environ.get("PORT", "9003"))
HOME = f"http://127.0.0.1:{PORT}/"

app = Flask(__name__)
app.secret_key = os.environ.get("SESSION_KEY") or os.urandom(32)  # without one, sessions end with the process
app.config.update(SESSION_COOKIE_SAMESITE="Lax")  # on https: SESSION_COOKIE_SECURE=True, too
saoma = OAuth(app).register(
    "saoma",
    client_id=os.environ.get("LOGIN_ID", "flask"),
    client_secret=os.environ["LOGIN_SECRET"],
    server_metadata_url=f"{SERVER}/.well-known/openid-configuration",
    client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
)


@app.get("/")
def home():
    if "user" not in session:
        return '<a href="/login">Log in</a>'
    name = escape(session["user"]["name"])
    return f'Hello {name}<form action="/logout" method="post"><button>Sign out</button></form>'


@app.get("/login")
def login():
    return saoma.authorize_redirect(f"{HOME}callback")


@app.get("/callback")
def callback():
    try:
        token = saoma.authorize_access_token()  # checks state, signature, issuer, audience, nonce
    except OAuthError:
        return 'That login was not begun here, or was refused. <a href="/login">Again</a>'
    session.clear()
    user = token["userinfo"]  # "sub" is who it is; it never changes
    session.update(user={"sub": user["sub"], "name": user["name"]}, id_token=token["id_token"])
    return redirect(HOME)


@app.post("/logout")  # by POST: SameSite=Lax keeps other sites' forms from signing people out
def logout():
    hint = {"id_token_hint": session.pop("id_token", ""), "post_logout_redirect_uri": HOME}
    session.clear()
    return redirect(f"{SERVER}/oauth2/logout?" + urlencode({**hint, "client_id": saoma.client_id}))


if __name__ == "__main__":
    app.run(port=PORT)
