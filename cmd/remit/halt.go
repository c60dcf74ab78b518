package main

import (
	"fmt"
	"io"
	"time"
)

// lastWordTimeout is how long a process that cannot go on tries to say why.
const lastWordTimeout = time.Second

// lastWord prints why a node cannot go on, and returns even if that is not taken:
// stderr may go to the very disk that hangs, and the process has to end.
func lastWord(stderr io.Writer, reason error) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintf(stderr, "remit: this node cannot go on: %v\n", reason)
	}()
	select {
	case <-said:
	case <-time.After(lastWordTimeout):
	}
}
