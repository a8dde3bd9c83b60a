package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

const endsAfter = time.Hour // of connections

// joined is said once all wait.
type joined struct {
	Waiters int      `json:"waiters"`
	Seconds float64  `json:"seconds"`
	Headers []string `json:"headers"` // the names of those of the first WebSocket's answer
}

// round is what one round of events tells.
type round struct {
	figures          // from an event's leaving to its waiter's being told
	Answers latency  `json:"answer_milliseconds"` // from an event's leaving to its own answer
	Late    float64  `json:"late_milliseconds"`   // by which the last of all to leave late left late
	Beat    latency  `json:"beat_milliseconds"`
	Told    int      `json:"told"`   // of all waiters, so far
	Closed  int      `json:"closed"` // likewise
	Headers []string `json:"headers"`
	Endings latency  `json:"ending_milliseconds"` // of waiters, from the first one's being told on
}

// wait has many waiters, WebSockets or long polls, and sends events upon which they are told.
//
// It says one document when all wait, and one more for each line of its standard input: that is a round. The
// file of waiters has each one's request; event number i of the file of events is for waiter number i*stride.
// With no number of events a round sends the first one alone, where there is any.
func wait(arguments []string) (any, error) {
	options := flag.NewFlagSet("wait", flag.ExitOnError)
	address := options.String("address", "", "host and port")
	file := options.String("waiters", "", "file of requests that wait")
	poll := options.Bool("poll", false, "they are long polls, not WebSockets")
	events := options.String("events", "", "file of requests, each of which tells a waiter")
	stride := options.Int("stride", 1, "from one event's waiter to the next one's")
	number := options.Int("number", 0, "events in a round; 0: none, it lasts until all waiters have ended")
	rate := options.Float64("rate", 100, "events a second")
	callers := options.Int("callers", 32, "connections for events")
	told := options.String("told", "CONFIRMED", "what a waiter is told")
	beat := options.String("beat", "", "file with a request that is sent on and on during rounds")
	every := options.Float64("every", 2, "milliseconds from one of those to the next one")
	_ = options.Parse(arguments)
	requests, err := readRequests(*file)
	if err != nil {
		return nil, err
	}
	all := &crowd{told: []byte(*told), poll: *poll, failures: map[string]int{}}
	begin := time.Now()
	if err := all.join(*address, requests); err != nil {
		return nil, err
	}
	say := json.NewEncoder(os.Stdout)
	_ = say.Encode(joined{len(requests), time.Since(begin).Seconds(), all.waiters[0].headers})
	sender := &sender{all: all, address: *address, callers: *callers, stride: *stride, rate: *rate}
	if *events != "" {
		if sender.requests, err = readRequests(*events); err != nil {
			return nil, err
		}
	}
	var regular *heart
	if *beat != "" {
		if regular, err = newHeart(*address, *beat, *every); err != nil {
			return nil, err
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		cpu := cpuSeconds()
		if err := regular.start(); err != nil {
			return nil, err
		}
		var said round
		if *number > 0 {
			said, err = sender.send(*number)
		} else {
			said, err = sender.end()
		}
		if err != nil {
			return nil, err
		}
		if said.Beat, err = regular.stop(); err != nil {
			return nil, err
		}
		said.CPU = cpuSeconds() - cpu
		said.Told, said.Closed = all.count()
		said.Headers = all.waiters[0].headers
		_ = say.Encode(said)
	}
	return nil, nil
}

// sender sends events at a rate, whether the former ones were answered or not.
type sender struct {
	all      *crowd
	requests [][]byte
	address  string
	callers  int
	stride   int
	rate     float64
	sent     int
}

// send sends so many, on connections of this round: a server closes those that were idle since the former one.
func (s *sender) send(number int) (round, error) {
	number = min(number, len(s.requests)-s.sent)
	idle := make(chan *connection, s.callers)
	for range s.callers {
		open, err := dial(s.address, time.Now().Add(endsAfter))
		if err != nil {
			return round{}, err
		}
		defer open.close()
		idle <- open
	}
	var done sync.WaitGroup
	var lock sync.Mutex
	left := make([]int64, number)
	answered := make([]time.Duration, 0, number)
	begin, late := time.Now(), time.Duration(0)
	for i := range number {
		due := begin.Add(time.Duration(float64(i) / s.rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		open := <-idle
		late = max(late, time.Since(due))
		left[i] = now()
		done.Add(1)
		go func(request []byte) {
			defer done.Done()
			from := time.Now()
			got, err := open.ask(request)
			took := time.Since(from)
			idle <- open
			if err == nil && got.status != 200 {
				err = fmt.Errorf("status %d", got.status)
			}
			if err != nil {
				s.all.fail(err.Error())
				return
			}
			lock.Lock()
			answered = append(answered, took)
			lock.Unlock()
		}(s.requests[s.sent+i])
	}
	done.Wait()
	took := s.arrivals(left)
	s.sent += number
	return round{
		figures: figures{
			Operations: len(took),
			Failures:   s.all.failed(),
			Seconds:    time.Since(begin).Seconds(),
			Latency:    percentiles(took),
		},
		Answers: percentiles(answered),
		Late:    float64(late) / float64(time.Millisecond),
	}, nil
}

// end sends the first event, where there is one, and returns when all waiters have ended.
func (s *sender) end() (round, error) {
	if len(s.requests) > 0 {
		open, err := dial(s.address, time.Now().Add(endsAfter))
		if err != nil {
			return round{}, err
		}
		defer open.close()
		if _, err = open.ask(s.requests[0]); err != nil {
			return round{}, err
		}
	}
	return s.all.end(), nil
}

// arrivals waits for all that were told to have been.
func (s *sender) arrivals(left []int64) []time.Duration {
	deadline := time.Now().Add(patience / 6)
	took := make([]time.Duration, 0, len(left))
	for i, from := range left {
		one := s.all.waiters[(s.sent+i)*s.stride]
		for one.told.Load() == 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if at := one.told.Load(); at != 0 {
			took = append(took, time.Duration(at-from))
		} else {
			s.all.fail("a waiter was not told")
		}
	}
	return took
}
