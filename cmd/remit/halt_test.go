package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestLastWord(t *testing.T) {
	var said bytes.Buffer
	lastWord(&said, errors.New("the disk hangs"))
	if !strings.Contains(said.String(), "cannot go on: the disk hangs\n") {
		t.Errorf("said %q", said.String())
	}

	// Nobody reads it.
	r, w := io.Pipe()
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lastWord(w, errors.New("the disk hangs"))
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the process would never end")
	}
}
