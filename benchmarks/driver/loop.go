package main

import (
	"sort"
	"sync"
	"syscall"
	"time"
)

// A caller does one operation after the other on connections of its own.
type caller interface {
	// operate reports what went wrong, and whether there is more to do; without an error and without more,
	// nothing was done.
	operate() (more bool, err error)
	close()
}

// figures is what a closed loop tells. Latencies are milliseconds of whole operations that succeeded.
type figures struct {
	Operations int            `json:"operations"`
	Failures   map[string]int `json:"failures"` // by what came instead
	Seconds    float64        `json:"seconds"`
	CPU        float64        `json:"driver_cpu_seconds"` // ours, not the server's
	Latency    latency        `json:"milliseconds"`
}

type latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// loop lets all callers operate at once, for the time of the limit; 0: until nothing is left to do.
func loop(limit time.Duration, callers []caller) figures {
	type seen struct {
		took     []time.Duration
		failures map[string]int
	}
	all := make([]seen, len(callers))
	var done sync.WaitGroup
	done.Add(len(callers))
	begin, cpu := time.Now(), cpuSeconds()
	for number, one := range callers {
		go func() {
			defer done.Done()
			mine := seen{make([]time.Duration, 0, 4096), map[string]int{}}
			for more := true; more && (limit == 0 || time.Since(begin) < limit); {
				var err error
				from := time.Now()
				if more, err = one.operate(); err != nil {
					mine.failures[err.Error()]++
				} else if more {
					mine.took = append(mine.took, time.Since(from))
				}
			}
			all[number] = mine
		}()
	}
	done.Wait()
	found := figures{Failures: map[string]int{}, Seconds: time.Since(begin).Seconds(), CPU: cpuSeconds() - cpu}
	var took []time.Duration
	for _, one := range all {
		took = append(took, one.took...)
		for failure, times := range one.failures {
			found.Failures[failure] += times
		}
	}
	found.Operations, found.Latency = len(took), percentiles(took)
	return found
}

func percentiles(took []time.Duration) latency {
	if len(took) == 0 {
		return latency{}
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	at := func(share float64) float64 {
		place := min(int(share*float64(len(took))), len(took)-1)
		return float64(took[place]) / float64(time.Millisecond)
	}
	return latency{at(0.5), at(0.9), at(0.99), at(1)}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
