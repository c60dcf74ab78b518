package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	nodev1 "github.com/remit-io/remit/proto/node/v1"
)

// voterConfirmer asks voters whether they still know no newer leader.
type voterConfirmer interface {
	// confirm returns nil if a majority of the voters, each asked after the call
	// began, is still at this term. Its error is ErrNotLeader where a voter has gone on
	// to a newer one, of which the node will hear.
	confirm(ctx context.Context, term uint64, voters []raft.Server) error
}

// termConfirmer asks every voter for its term. A voter stores a newer term before
// it votes in it, so one that is still at the leader's term when it is asked has
// elected nobody since; pre-votes raise no term. The node itself counts where it is
// a voter: it was the leader of the term a moment ago, and the round looks again.
type termConfirmer struct{ node *Node }

func (c termConfirmer) confirm(ctx context.Context, term uint64, voters []raft.Server) error {
	need := len(voters)/2 + 1
	var asked []uuid.UUID
	for _, voter := range voters {
		if voter.ID == c.node.serverID() {
			need--
			continue
		}
		id, err := uuid.Parse(string(voter.ID))
		if err != nil {
			return fmt.Errorf("the voter %q has an id that is no UUID", voter.ID)
		}
		asked = append(asked, id)
	}
	if need <= 0 {
		return nil
	}
	ctx, cancel := c.whileLeader(ctx, term) // who answers after the majority is not waited for
	defer cancel()
	answers := make(chan error, len(asked))
	for _, id := range asked {
		go func() { answers <- c.ask(ctx, id, term) }()
	}
	var reasons []string
	var over error
	for remaining := len(asked); remaining >= need; remaining-- {
		err := <-answers
		if err == nil {
			if need--; need == 0 {
				return nil
			}
			continue
		}
		reasons = append(reasons, err.Error())
		if errors.Is(err, ErrNotLeader) {
			over = err
		}
	}
	if over != nil {
		return over
	}
	return fmt.Errorf("leadership is not confirmed by a majority of the %d voters: %s", len(voters), strings.Join(reasons, "; "))
}

// whileLeader returns a context that ends when the node leads no longer in the term:
// a voter that answers nothing is not waited for then.
func (c termConfirmer) whileLeader(ctx context.Context, term uint64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil {
			changed := c.node.leaders.changed()
			if now, leads := c.node.leaderTerm(); !leads || now != term {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}()
	return ctx, cancel
}

// ask returns nil if the voter is at the term.
func (c termConfirmer) ask(ctx context.Context, voter uuid.UUID, term uint64) error {
	answer, err := c.node.nodeClient(voter).Term(ctx, &nodev1.TermRequest{})
	if err != nil {
		return fmt.Errorf("voter %s: %s", voter, reasonOf(err))
	}
	switch now := answer.GetTerm(); {
	case now > term:
		return fmt.Errorf("%w any more: voter %s is in term %d, this node in %d", ErrNotLeader, voter, now, term)
	case now < term:
		return fmt.Errorf("voter %s is in term %d, this node in %d", voter, now, term)
	}
	return nil
}
