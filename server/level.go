package server

import (
	"context"
	"fmt"
	"time"

	"github.com/remit-io/remit/fsm"
)

const (
	levelInterval = time.Second
	// levelTimeout bounds one look at all members and the command after it.
	levelTimeout = 10 * time.Second
)

// raiseLevels raises the level of formats and semantics step by step for as long
// as every node supports the next one, until the context ends. Only the leader
// does.
func (s *Server) raiseLevels(ctx context.Context) {
	waits := ""
	for {
		reason, err := s.raiseLevel(ctx)
		if err != nil {
			reason = err.Error()
		}
		if reason != waits && reason != "" {
			s.logger.Info("the level is not raised yet", "reason", reason)
		}
		waits = reason
		select {
		case <-ctx.Done():
			return
		case <-time.After(levelInterval):
		}
	}
}

// raiseLevel raises the level by one, if there is one to raise to. It returns why
// the nodes do not allow that.
func (s *Server) raiseLevel(ctx context.Context) (reason string, err error) {
	state := s.store.State()
	if state.Revision == 0 || state.Level >= s.level {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, levelTimeout)
	defer cancel()
	if _, self, err := s.log.Leader(ctx); err != nil || !self {
		return "", nil
	}
	s.membership.Lock()
	defer s.membership.Unlock()
	state = s.store.State()
	next := state.Level + 1
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		switch {
		case !m.Reached:
			return fmt.Sprintf("node %s (%s) cannot be asked whether it supports level %d", quote(m.Name), m.ID, next), nil
		case m.SupportedLevel < next:
			return fmt.Sprintf("node %s (%s) supports level %d at most: upgrade it", quote(m.Name), m.ID, m.SupportedLevel), nil
		}
	}
	if err := s.propose(ctx, &fsm.RaiseLevel{Level: next}); err != nil {
		return "", err
	}
	s.logger.Info("level raised: every node supports it", "level", next)
	return "", nil
}
