// A site with go-oidc and x/oauth2: logs in, tells who it is, refreshes, logs out, hears of sessions that have ended.
// Answers with JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"net/url"
	"os"
	"sync"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

type site struct {
	origin     string
	endSession string
	provider   *oidc.Provider
	verifier   *oidc.IDTokenVerifier
	oauth      oauth2.Config

	mutex   sync.Mutex
	state   string // of the login that is under way, like the next two
	nonce   string
	secret  string // PKCE's verifier
	token   *oauth2.Token
	idToken string
	sid     string
}

type told struct {
	Subject      string `json:"sub"`
	Name         string `json:"name"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

func main() {
	ctx := context.Background()
	provider, err := oidc.NewProvider(ctx, os.Getenv("ISSUER"))
	if err != nil {
		log.Fatal(err)
	}
	var metadata struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&metadata); err != nil {
		log.Fatal(err)
	}
	address := "127.0.0.1:" + os.Getenv("PORT")
	s := &site{
		origin:     "http://" + address,
		endSession: metadata.EndSession,
		provider:   provider,
		verifier:   provider.Verifier(&oidc.Config{ClientID: os.Getenv("CLIENT_ID")}),
		oauth: oauth2.Config{
			ClientID:     os.Getenv("CLIENT_ID"),
			ClientSecret: os.Getenv("CLIENT_SECRET"),
			Endpoint:     provider.Endpoint(),
			RedirectURL:  "http://" + address + "/callback",
			Scopes:       []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess},
		},
	}
	http.HandleFunc("GET /login", s.login)
	http.HandleFunc("GET /logout", s.logout)
	http.HandleFunc("GET /callback", s.json(s.callback))
	http.HandleFunc("GET /me", s.json(s.me))
	http.HandleFunc("GET /refresh", s.json(s.refresh))
	http.HandleFunc("GET /again", s.json(s.again))
	http.HandleFunc("GET /bye", s.json(func(*http.Request) (any, error) { return "bye", nil }))
	http.HandleFunc("POST /ended", s.json(s.ended))
	log.Fatal(http.ListenAndServe(address, nil))
}

func (s *site) json(page func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		answer, err := page(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}
}

func (s *site) login(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.state, s.nonce, s.secret = oauth2.GenerateVerifier(), oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	address := s.oauth.AuthCodeURL(s.state, oidc.Nonce(s.nonce), oauth2.S256ChallengeOption(s.secret))
	http.Redirect(w, r, address, http.StatusFound)
}

func (s *site) callback(r *http.Request) (any, error) {
	query := r.URL.Query()
	if query.Get("state") != s.state || query.Get("iss") != os.Getenv("ISSUER") {
		return nil, errors.New("not the login that was begun here")
	}
	token, err := s.oauth.Exchange(r.Context(), query.Get("code"), oauth2.VerifierOption(s.secret))
	if err != nil {
		return nil, err
	}
	return s.keep(r.Context(), token, s.nonce)
}

// keep verifies what came with the token, the ID token's signature and nonce above all.
func (s *site) keep(ctx context.Context, token *oauth2.Token, nonce string) (any, error) {
	raw, _ := token.Extra("id_token").(string)
	verified, err := s.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	var claims struct {
		Name string `json:"name"`
		Sid  string `json:"sid"`
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, err
	}
	if nonce != verified.Nonce {
		return nil, errors.New("the nonce is another")
	}
	s.token, s.idToken, s.sid = token, raw, claims.Sid
	return told{verified.Subject, claims.Name, token.AccessToken, token.RefreshToken}, nil
}

func (s *site) me(r *http.Request) (any, error) {
	if s.token == nil {
		return nil, errors.New("nobody is logged in")
	}
	info, err := s.provider.UserInfo(r.Context(), oauth2.StaticTokenSource(s.token))
	if err != nil {
		return nil, err
	}
	answer := told{Subject: info.Subject}
	return answer, info.Claims(&answer)
}

func (s *site) refresh(r *http.Request) (any, error) {
	token, err := s.fresh(r.Context(), s.token.RefreshToken)
	if err != nil {
		return nil, err
	}
	return s.keep(r.Context(), token, "") // a refreshed one has none
}

func (s *site) again(r *http.Request) (any, error) {
	return s.fresh(r.Context(), r.URL.Query().Get("refresh_token"))
}

func (s *site) fresh(ctx context.Context, refreshToken string) (*oauth2.Token, error) {
	return s.oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
}

func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	query := url.Values{"id_token_hint": {s.idToken}, "post_logout_redirect_uri": {s.origin + "/bye"}}
	s.token = nil
	http.Redirect(w, r, s.endSession+"?"+query.Encode(), http.StatusFound)
}

// ended is the back-channel logout.
func (s *site) ended(r *http.Request) (any, error) {
	token, err := s.verifier.VerifyLogout(r.Context(), r.PostFormValue("logout_token"))
	if err != nil {
		return nil, err
	}
	if token.SessionID == s.sid {
		s.token = nil
	}
	return token.TokenID, nil
}
