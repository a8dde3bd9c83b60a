package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// replay sends the requests of a file, each once, or with -seconds all of them again and again for that long.
//
// The file has each request as it goes over the wire, its length before it: 4 bytes, the highest first.
func replay(arguments []string) (any, error) {
	options := flag.NewFlagSet("replay", flag.ExitOnError)
	address := options.String("address", "", "host and port")
	file := options.String("requests", "", "file of requests")
	number := options.Int("callers", 1, "connections, each with one request at a time")
	seconds := options.Float64("seconds", 0, "how long; 0: until each request was sent once")
	status := options.Int("status", 200, "what each answer must have")
	contains := options.String("contains", "", "what each answer's body must have in it")
	_ = options.Parse(arguments)
	requests, err := readRequests(*file)
	if err != nil {
		return nil, err
	}
	limit := time.Duration(*seconds * float64(time.Second))
	deadline := time.Now().Add(limit + patience)
	var sent atomic.Int64
	callers := make([]caller, *number)
	for i := range callers {
		open, err := dial(*address, deadline)
		if err != nil {
			return nil, err
		}
		callers[i] = &replayer{open, requests, &sent, limit == 0, *status, []byte(*contains)}
	}
	return loop(limit, callers), nil
}

type replayer struct {
	*connection
	requests [][]byte
	sent     *atomic.Int64 // by all callers together
	once     bool
	status   int
	contains []byte
}

func (r *replayer) operate() (more bool, err error) {
	number := int(r.sent.Add(1)) - 1
	if r.once && number >= len(r.requests) {
		return false, nil
	}
	got, err := r.ask(r.requests[number%len(r.requests)])
	if err != nil {
		return false, err
	}
	if got.status != r.status {
		return true, fmt.Errorf("status %d", got.status)
	}
	if !bytes.Contains(got.body, r.contains) {
		return true, fmt.Errorf("an answer without %q", r.contains)
	}
	return true, nil
}

func readRequests(file string) ([][]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for len(content) > 0 {
		if len(content) < 4 || len(content)-4 < int(binary.BigEndian.Uint32(content)) {
			return nil, errors.New("the file of requests is cut off")
		}
		end := 4 + int(binary.BigEndian.Uint32(content))
		requests = append(requests, content[4:end])
		content = content[end:]
	}
	if requests == nil {
		return nil, errors.New("the file has no requests")
	}
	return requests, nil
}
