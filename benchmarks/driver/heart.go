package main

import "time"

// heart sends one request on and on, each when the one before it has been answered and its time has come: the longest
// is the longest that anybody was kept waiting. nil never beats.
type heart struct {
	address string
	request []byte
	every   time.Duration
	stopped chan struct{}
	said    chan latency
	failed  error // to be read when it has said
}

func newHeart(address, file string, every float64) (*heart, error) {
	requests, err := readRequests(file)
	if err != nil {
		return nil, err
	}
	return &heart{address: address, request: requests[0], every: time.Duration(every * float64(time.Millisecond))}, nil
}

func (h *heart) start() error {
	if h == nil {
		return nil
	}
	open, err := dial(h.address, time.Now().Add(endsAfter))
	if err != nil {
		return err
	}
	h.stopped, h.said = make(chan struct{}), make(chan latency, 1)
	go func() {
		defer open.close()
		var took []time.Duration
		for from := time.Now(); ; {
			select {
			case <-h.stopped:
				h.said <- percentiles(took)
				return
			case <-time.After(h.every - time.Since(from)):
			}
			from = time.Now()
			if _, h.failed = open.ask(h.request); h.failed != nil {
				h.said <- latency{}
				return
			}
			took = append(took, time.Since(from))
		}
	}()
	return nil
}

func (h *heart) stop() (latency, error) {
	if h == nil {
		return latency{}, nil
	}
	close(h.stopped)
	said := <-h.said
	return said, h.failed
}
