package cluster

import (
	"sync"
	"time"
)

const (
	// quietFor is how long an event that goes on is not told again.
	quietFor = 30 * time.Second
	// quietMost bounds the events remembered for that.
	quietMost = 1000
)

// occasionally keeps an event that goes on from being told all the time.
type occasionally struct {
	every time.Duration // once in this time; quietFor if zero
	burst int           // so many may follow each other at once; 1 if zero

	mu     sync.Mutex
	events map[string]*recurring
}

// recurring is an event that may go on.
type recurring struct {
	due  time.Time // when all that may follow each other at once may do so again
	left int       // out since it was told last
}

// now reports whether the event is to be told now.
func (o *occasionally) now(event string) bool {
	tell, _ := o.again(event)
	return tell
}

// again reports whether the event is to be told now, and how often it was left out
// since it was told last.
func (o *occasionally) again(event string) (tell bool, left int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	every, burst := o.every, max(o.burst, 1)
	if every == 0 {
		every = quietFor
	}
	e := o.events[event]
	if e == nil {
		if o.events == nil || len(o.events) >= quietMost {
			o.events = map[string]*recurring{}
		}
		e = &recurring{}
		o.events[event] = e
	}
	now := time.Now()
	if e.due.Sub(now) > time.Duration(burst-1)*every {
		e.left++
		return false, 0
	}
	if e.due.Before(now) {
		e.due = now
	}
	e.due, left, e.left = e.due.Add(every), e.left, 0
	return true, left
}
