package fsm

import "fmt"

// MaxLevel is the newest level of formats and semantics that this version knows.
//
// Level 1 is what there was before several nodes made a cluster. Level 2 remembers
// what commands came to (Envelope.Request, Envelope.Content), and has the commands
// Checkpoint, BeginRestore, RestoreChunk and CommitRestore.
const MaxLevel = 2

// levelOfClusters is the level at which the commands of several nodes work.
const levelOfClusters = 2

// RaiseLevel raises the level of the cluster; a lower one than it has changes
// nothing. It is proposed when every server has confirmed that it knows the
// level: a node that does not stops at this command.
type RaiseLevel struct {
	Level uint32 `msgpack:"level"`
}

// Checkpoint makes every node publish and keep the state of exactly the
// command's revision, to be compared with the others' (Store.Checkpoint).
type Checkpoint struct{}

// knownLevel fails where a command brings a level that this version does not
// know: what follows it in the log is not for this node.
func knownLevel(body Body) error {
	var level uint32
	switch c := body.(type) {
	case *Init:
		level = c.Level
	case *RaiseLevel:
		level = c.Level
	}
	if level > MaxLevel {
		return fmt.Errorf("level %d is not known, %d at most: %w", level, MaxLevel, ErrUpgrade)
	}
	return nil
}

// requireLevel fails unless the cluster has reached a level.
func (b *batch) requireLevel(level uint32) *Error {
	if b.state.Level >= level {
		return nil
	}
	return errorf(CodeFailedPrecondition, "this needs level %d, and the cluster is at level %d: upgrade every node", level, b.state.Level)
}

func (c *RaiseLevel) apply(b *batch) Result {
	if err := firstOf(b.requireOperator(), b.requireLevel(1)); err != nil {
		return failed(err)
	}
	b.state.Level = max(b.state.Level, c.Level)
	return Result{}
}

func (c *Checkpoint) apply(b *batch) Result {
	if err := firstOf(b.requireOperator(), b.requireLevel(levelOfClusters)); err != nil {
		return failed(err)
	}
	b.checkpoint = true
	return Result{}
}
