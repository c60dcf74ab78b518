package fsm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hashicorp/raft"
)

// A machine is a store that a test drives as raft would.
type machine struct {
	t     testing.TB
	store *Store
	index uint64
	scope Scope
}

func newMachine(t testing.TB) *machine { return newMachineAt(t, MaxLevel) }

func newMachineAt(t testing.TB, level uint32) *machine {
	m := &machine{t: t, store: newStore(t), scope: Scope{ID{1}, ID{2}}}
	m.must(&Init{ID{9}, ID{8}, [32]byte{7}, level, *machineInit(m.scope)})
	return m
}

// machineInit is the first organisation of every machine.
func machineInit(scope Scope) *CreateOrganisation {
	return &CreateOrganisation{
		Organisation: scope.Organisation, Name: BootstrapOrganisation, BuiltIn: remitID,
		Project: scope.Project, ProjectName: "production", Key: rootID, KeyName: "root", KeyHash: [32]byte{4},
	}
}

func newStore(t testing.TB) *Store {
	return NewStore(func(err error) { t.Errorf("halted: %v", err) })
}

// byCluster is a command of the cluster itself, which nobody judges.
func byCluster(body Body) *Command { return &Command{Envelope{Time: 1}, body} }

// by is a command of a key, with the rights that it requires: a permission and
// a URI each.
func by(key ID, body Body, requires ...[2]string) *Command {
	c := &Command{Envelope{Key: key, Actor: KeyPrincipal(key), Time: 1}, body}
	for _, r := range requires {
		c.Envelope.Requires = append(c.Envelope.Requires, Requirement{r[0], r[1], []string{""}})
	}
	return c
}

func (m *machine) log(c *Command) *raft.Log {
	m.t.Helper()
	m.index++
	fresh := *c // played again, it is another request
	if c.Envelope.Request == (ID{}) {
		binary.BigEndian.PutUint64(fresh.Envelope.Request[:], m.index)
	}
	data, err := fresh.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	return &raft.Log{Index: m.index, Type: raft.LogCommand, Data: data}
}

func (m *machine) apply(bodies ...Body) []Result {
	m.t.Helper()
	var commands []*Command
	for _, b := range bodies {
		commands = append(commands, byCluster(b))
	}
	return m.play(commands...)
}

// play applies commands in one batch.
func (m *machine) play(commands ...*Command) []Result {
	m.t.Helper()
	var logs []*raft.Log
	for _, c := range commands {
		logs = append(logs, m.log(c))
	}
	var results []Result
	for _, r := range m.store.ApplyBatch(logs) {
		results = append(results, r.(Result))
	}
	return results
}

// must applies one command that has to succeed.
func (m *machine) must(body Body) Result {
	m.t.Helper()
	r := m.apply(body)[0]
	if r.Err != nil {
		m.t.Fatalf("%T: %v", body, r.Err)
	}
	return r
}

func (m *machine) project() *Project {
	o, _ := m.store.State().Organisation(m.scope.Organisation)
	p, _ := o.Project("production")
	return p
}

// restart replaces the store by one that read its snapshot.
func (m *machine) restart() {
	m.t.Helper()
	var b bytes.Buffer
	if err := m.store.State().WriteSnapshot(&b); err != nil {
		m.t.Fatal(err)
	}
	state, err := ReadSnapshot(&b)
	if err != nil {
		m.t.Fatal(err)
	}
	m.store = newStore(m.t)
	m.store.publish(state)
}
