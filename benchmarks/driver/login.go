package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

const (
	tokenSeconds = 300
	apart        = 7919 // from one login's person to the next one's: neighbours would find each other's pages read
	// A browser's XSRF cookie and what its page sends along, as Tornado makes them.
	xsrf = "2|5b4c3d2e|3f1a6c8d9e0b2f4a5c7d8e9fa0b1c2d3|1700000000"
)

// login is whole logins with the team's own app: a browser asks for a ticket, a phone scans and confirms, the
// browser collects. Four requests one after the other, each answer checked. Tokens are signed on the way.
func login(arguments []string) (any, error) {
	options := flag.NewFlagSet("login", flag.ExitOnError)
	address := options.String("address", "", "host and port; of several nodes, by commas, each in turn")
	origin := options.String("origin", "", "the server's base_url, on https")
	issuer := options.String("issuer", "", "app.issuer")
	audience := options.String("audience", "saoma", "app.audience")
	key := options.String("key", "", "app.key, a shared secret")
	people := options.Int("people", 1000, "how many different ones log in")
	name := options.String("name", "", "what no other run's tokens are called")
	number := options.Int("callers", 1, "logins at a time")
	seconds := options.Float64("seconds", 1, "how long")
	_ = options.Parse(arguments)
	limit := time.Duration(*seconds * float64(time.Second))
	deadline := time.Now().Add(limit + patience)
	tokens := &signer{[]byte(*key), *issuer, *audience, *name, int64(*people), atomic.Int64{}}
	callers := make([]caller, *number)
	for i := range callers {
		one := &visitor{nil, i, *origin, strings.TrimPrefix(*origin, "https://"), tokens}
		for _, node := range strings.Split(*address, ",") {
			open, err := dial(node, deadline)
			if err != nil {
				return nil, err
			}
			one.nodes = append(one.nodes, open)
		}
		callers[i] = one
	}
	return loop(limit, callers), nil
}

type visitor struct {
	nodes        []*connection
	turn         int // whose it is; one login's requests go to all nodes
	origin, host string
	tokens       *signer
}

func (v *visitor) close() {
	for _, node := range v.nodes {
		node.close()
	}
}

func (v *visitor) operate() (more bool, err error) {
	var ticket struct{ ID, State, Handle string }
	browser := "Origin: " + v.origin + "\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36\r\n"
	got, err := v.post("/api/v1/tickets", browser, `{"method":"app"}`)
	if err != nil {
		return false, err
	}
	if err := read(got, 201, "WAITING", &ticket); err != nil {
		return true, err
	}
	cookie, _, _ := strings.Cut(got.header("Set-Cookie"), ";")
	path := "/api/v1/tickets/" + ticket.ID
	bearer := "Authorization: Bearer " + v.tokens.next() + "\r\n"
	if got, err = v.post(path+"/scan", bearer, "{}"); err != nil {
		return false, err
	}
	if err := read(got, 200, "SCANNED", &ticket); err != nil {
		return true, err
	}
	if got, err = v.post(path+"/confirm", bearer, `{"handle":"`+ticket.Handle+`"}`); err != nil {
		return false, err
	}
	if err := read(got, 200, "CONFIRMED", &ticket); err != nil {
		return true, err
	}
	browser += "Cookie: " + cookie + "; __Host-saoma-xsrf=" + xsrf + "\r\nX-XSRFToken: " + xsrf + "\r\n"
	if got, err = v.post(path+"/exchange", browser, "{}"); err != nil {
		return false, err
	}
	if err := read(got, 200, "CONSUMED", &ticket); err != nil {
		return true, err
	}
	if !strings.Contains(string(got.head), "saoma-session=") {
		return true, fmt.Errorf("a login without a session")
	}
	return true, nil
}

func (v *visitor) post(path, headers, body string) (answer, error) {
	v.turn++
	return v.nodes[v.turn%len(v.nodes)].ask([]byte(fmt.Sprintf(
		"POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, v.host, headers, len(body), body)))
}

// read takes what an answer says of its ticket.
func read(got answer, status int, state string, ticket *struct{ ID, State, Handle string }) error {
	if got.status != status {
		return fmt.Errorf("status %d in the place of %s", got.status, state)
	}
	if err := json.Unmarshal(got.body, ticket); err != nil {
		return err
	}
	if ticket.State != state {
		return fmt.Errorf("%s in the place of %s", ticket.State, state)
	}
	return nil
}

// signer makes the tokens (JWT, HS256) that the app's backend gives to its people's phones.
type signer struct {
	key                    []byte
	issuer, audience, name string
	people                 int64
	made                   atomic.Int64
}

// next is a token of the next person's, which was never made before.
func (s *signer) next() string {
	number, now := s.made.Add(1), time.Now().Unix()
	claims, _ := json.Marshal(map[string]any{
		"iss": s.issuer, "aud": s.audience, "sub": fmt.Sprintf("person-%d", number*apart%s.people), "name": "小明",
		"iat": now, "exp": now + tokenSeconds, "jti": fmt.Sprintf("%s-%d", s.name, number),
	})
	encoding := base64.RawURLEncoding
	signed := encoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encoding.EncodeToString(claims)
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(signed))
	return signed + "." + encoding.EncodeToString(mac.Sum(nil))
}
