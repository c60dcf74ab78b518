package fsm

// A worldRequest is what somebody sent, and what it came to.
type worldRequest struct {
	command    *Command
	apply      func(w *world) Code
	remembered bool
	code       Code
	content    uint64
}

// step draws the next command: one not sent before, or seldom a repetition, or
// that the cluster raises its level.
func (h *worldHistory) step(w *world) worldStep {
	if len(h.queue) == 0 {
		switch n := h.r.IntN(300); {
		case n < 20 && len(h.sent) > 0:
			return h.repetition()
		case n < 25:
			level := uint32(1 + h.r.IntN(MaxLevel))
			return byItself(&RaiseLevel{level}, func(w *world) Code {
				w.level = max(w.level, level)
				return 0
			})
		}
	}
	s := h.draw(w)
	if s.Envelope.Key == (ID{}) {
		return s
	}
	r := &worldRequest{command: s.Command, apply: s.apply}
	r.command.Envelope.Request, r.command.Envelope.Content = ID(h.bytes(16)), h.r.Uint64()
	h.sent = append(h.sent, r)
	return worldStep{r.command, r.send(r.command.Envelope.Content)}
}

// repetition draws a request that was sent before, mostly a recent one. Seldom it
// asks for something else.
func (h *worldHistory) repetition() worldStep {
	r := pick(h.r, h.sent)
	if h.r.IntN(2) == 0 {
		r = pick(h.r, h.sent[max(0, len(h.sent)-5):])
	}
	again := *r.command
	again.Envelope.Time++ // from another node, a moment later
	if h.r.IntN(6) == 0 {
		again.Envelope.Content++
	}
	return worldStep{&again, r.send(again.Envelope.Content)}
}

func (r *worldRequest) send(content uint64) func(w *world) Code {
	return func(w *world) Code {
		if r.remembered {
			if content != r.content {
				return CodeInvalidArgument
			}
			return r.code
		}
		r.code, r.content = r.apply(w), content
		r.remembered = w.level >= 2 && r.code != CodeUnavailable
		return r.code
	}
}

func (h *worldHistory) bytes(n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = byte(h.r.UintN(256))
	}
	return all
}
