package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	waiterBuffer = 4 << 10 // bytes; there are thousands of them
	connecting   = 64      // connections that are opened at a time
)

// crowd is all who wait.
type crowd struct {
	waiters  []*waiter
	told     []byte
	poll     bool
	lock     sync.Mutex
	failures map[string]int
}

// waiter is one of them. Times are nanoseconds since the crowd began, 0: not yet.
type waiter struct {
	*connection
	all     *crowd
	headers []string
	told    atomic.Int64
	closed  atomic.Int64
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

// join opens a connection for each request and returns when each WebSocket was told something.
func (all *crowd) join(address string, requests [][]byte) error {
	all.waiters = make([]*waiter, len(requests))
	places := make(chan int)
	failed := make(chan error, connecting)
	var done sync.WaitGroup
	for range connecting {
		done.Add(1)
		go func() {
			defer done.Done()
			for place := range places {
				var err error
				if all.waiters[place], err = all.welcome(address, requests[place]); err != nil {
					failed <- fmt.Errorf("waiter %d: %w", place, err)
					for range places {
					}
				}
			}
		}()
	}
	for place := range requests {
		places <- place
	}
	close(places)
	done.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	for _, one := range all.waiters {
		go one.listen()
	}
	return nil
}

func (all *crowd) welcome(address string, request []byte) (*waiter, error) {
	open, err := dialWith(waiterBuffer, address, time.Now().Add(endsAfter))
	if err != nil {
		return nil, err
	}
	one := &waiter{connection: open, all: all}
	if _, err := open.socket.Write(request); err != nil || all.poll {
		return one, err
	}
	status, err := open.readHead()
	if err != nil {
		return nil, err
	}
	if status != 101 {
		return nil, fmt.Errorf("status %d", status)
	}
	one.headers = names(open.head)
	for {
		opcode, _, err := one.frame()
		if err != nil || opcode == textFrame {
			return one, err
		}
	}
}

const textFrame, closeFrame, pingFrame, pongFrame = 1, 8, 9, 10

// frame reads one, and answers a ping. Its payload is valid until the next one.
func (w *waiter) frame() (opcode byte, payload []byte, err error) {
	var head [4]byte
	if _, err = io.ReadFull(w.reader, head[:2]); err != nil {
		return 0, nil, err
	}
	length := int(head[1])
	if length > 126 {
		return 0, nil, errors.New("a frame that is masked or longer than 64 KiB")
	}
	if length == 126 {
		if _, err = io.ReadFull(w.reader, head[2:]); err != nil {
			return 0, nil, err
		}
		length = int(binary.BigEndian.Uint16(head[2:]))
	}
	if err = w.readBody(length); err != nil {
		return 0, nil, err
	}
	opcode = head[0] & 0x0f
	switch opcode {
	case pingFrame:
		err = w.reply(pongFrame, w.body)
	case closeFrame:
		err = w.reply(closeFrame, w.body)
	}
	return opcode, w.body, err
}

// reply sends a frame, masked with zeros.
func (w *waiter) reply(opcode byte, payload []byte) error {
	frame := append([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
	_, err := w.socket.Write(frame)
	return err
}

func (w *waiter) listen() {
	defer func() { w.closed.Store(now()) }()
	defer w.close()
	if w.all.poll {
		got, err := w.readAnswer()
		w.hear(got.body, err)
		w.headers = names(got.head)
		return
	}
	for {
		opcode, payload, err := w.frame()
		if err != nil || opcode == closeFrame {
			if opcode != closeFrame {
				w.all.fail(err.Error())
			}
			return
		}
		if opcode == textFrame {
			w.hear(payload, nil)
		}
	}
}

func (w *waiter) hear(what []byte, err error) {
	switch {
	case err != nil:
		w.all.fail(err.Error())
	case bytes.Contains(what, w.all.told):
		w.told.Store(now())
	default:
		w.all.fail(fmt.Sprintf("told %.60q", what))
	}
}

func (all *crowd) fail(what string) {
	all.lock.Lock()
	all.failures[what]++
	all.lock.Unlock()
}

func (all *crowd) count() (told, closed int) {
	for _, one := range all.waiters {
		if one.told.Load() != 0 {
			told++
		}
		if one.closed.Load() != 0 {
			closed++
		}
	}
	return told, closed
}

// end returns when all have ended.
func (all *crowd) end() round {
	begin := time.Now()
	for {
		if _, closed := all.count(); closed == len(all.waiters) || time.Since(begin) > patience*3 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var told []time.Duration
	for _, one := range all.waiters {
		if at := one.told.Load(); at != 0 {
			told = append(told, time.Duration(at))
		}
	}
	sort.Slice(told, func(a, b int) bool { return told[a] < told[b] })
	for place := len(told) - 1; place >= 0; place-- {
		told[place] -= told[0]
	}
	return round{
		figures: figures{Operations: len(told), Failures: all.failed(), Seconds: time.Since(begin).Seconds()},
		Endings: percentiles(told),
	}
}

func (all *crowd) failed() map[string]int {
	all.lock.Lock()
	defer all.lock.Unlock()
	failures := all.failures
	all.failures = map[string]int{}
	return failures
}

// names are those of an answer's headers, in their order by the alphabet.
func names(head []byte) []string {
	var found []string
	for _, line := range bytes.Split(bytes.TrimSpace(head), []byte("\r\n")) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		found = append(found, strings.ToLower(string(name)))
	}
	sort.Strings(found)
	return found
}
