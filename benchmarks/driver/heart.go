package main

import "time"

// heart sends one request on and on, at fixed times: what comes late was kept waiting. nil never beats.
type heart struct {
	*connection
	request []byte
	every   time.Duration
	stopped chan struct{}
	said    chan latency
}

func newHeart(address, file string, every float64) (*heart, error) {
	requests, err := readRequests(file)
	if err != nil {
		return nil, err
	}
	open, err := dial(address, time.Now().Add(endsAfter))
	if err != nil {
		return nil, err
	}
	return &heart{connection: open, request: requests[0], every: time.Duration(every * float64(time.Millisecond))}, nil
}

func (h *heart) start() {
	if h == nil {
		return
	}
	h.stopped, h.said = make(chan struct{}), make(chan latency, 1)
	go func() {
		var took []time.Duration
		for due := time.Now(); ; due = due.Add(h.every) {
			select {
			case <-h.stopped:
				h.said <- percentiles(took)
				return
			case <-time.After(time.Until(due)):
			}
			from := time.Now()
			if from.Sub(due) < h.every {
				due = from // our own timer's lateness is none of the server's
			}
			if _, err := h.ask(h.request); err != nil {
				h.said <- latency{}
				return
			}
			took = append(took, time.Since(due))
		}
	}()
}

func (h *heart) stop() latency {
	if h == nil {
		return latency{}
	}
	close(h.stopped)
	return <-h.said
}
