package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const (
	checkedGrants   = 1000
	consistentReads = 64 // at a time
)

// A checking is a way to check, and what was measured of it.
type checking struct {
	place, mode string
	*client
	consistency permissionsv1.Consistency
	token       func(ctx context.Context) (string, error) // of a write that was just acknowledged

	all latencies
	p50 []float64 // by round
}

// measureChecks compares checks in every mode on every kind of node, in one
// cluster.
func measureChecks(ctx context.Context, s settings) error {
	c, _, err := formCluster(ctx, s, fleet{voters: 3, replicas: 1})
	if err != nil {
		return err
	}
	defer c.end()
	leader, err := c.leader(ctx, c.nodes[0])
	if err != nil {
		return err
	}
	if err := leader.createPermission(ctx); err != nil {
		return err
	}
	token := ""
	for i := range checkedGrants {
		if token, err = leader.grant(ctx, 0, i); err != nil {
			return err
		}
	}
	// From here on every node has them all.
	for _, n := range c.nodes {
		if err := n.check(ctx, 0, 0, permissionsv1.Consistency_AT_LEAST_AS_FRESH, token); err != nil {
			return err
		}
	}
	bare, stop, err := startEcho(ctx, c.key)
	if err != nil {
		return err
	}
	defer stop()
	follower, replica := c.others(leader)[0], c.nodes[c.voters]
	all, err := compareChecks(ctx, s, bare, leader, follower, replica)
	if err != nil {
		return err
	}
	reportChecks(s, all)
	return shareRounds(ctx, s, c, leader, follower)
}

func compareChecks(ctx context.Context, s settings, bare *client, leader, follower, replica *node) ([]*checking, error) {
	written := 0
	fresh := func(ctx context.Context) (string, error) {
		written++
		return leader.grant(ctx, 1, written)
	}
	all := []*checking{{place: "a bare gRPC echo", client: bare}}
	for _, place := range []struct {
		name string
		*node
	}{{"leader", leader}, {"follower", follower}, {"replica", replica}} {
		all = append(all,
			&checking{place: place.name, mode: "minimize_latency", client: place.client, consistency: permissionsv1.Consistency_MINIMIZE_LATENCY},
			&checking{place: place.name, mode: "at_least_as_fresh", client: place.client, consistency: permissionsv1.Consistency_AT_LEAST_AS_FRESH, token: fresh},
			&checking{place: place.name, mode: "fully_consistent", client: place.client, consistency: permissionsv1.Consistency_FULLY_CONSISTENT})
	}
	order := slices.Clone(all)
	for round := range s.rounds + 1 {
		progress("checks, round %d of %d", round, s.rounds)
		for _, k := range order {
			took, err := k.drive(ctx, s.slice/3)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", k.place, k.mode, err)
			}
			if round == 0 {
				continue // all are warm now
			}
			k.all = append(k.all, took...)
			k.p50 = append(k.p50, took.at(0.5).Seconds())
		}
		slices.Reverse(order)
	}
	return all, nil
}

// drive makes checks for a while, one after the other. What writes a token takes is
// not counted.
func (k *checking) drive(ctx context.Context, during time.Duration) (took latencies, err error) {
	ends := time.Now().Add(during)
	for i := 0; time.Now().Before(ends); i++ {
		token := ""
		if k.token != nil {
			if token, err = k.token(ctx); err != nil {
				return nil, err
			}
		}
		sent := time.Now()
		if err := k.check(ctx, 0, i*7919%checkedGrants, k.consistency, token); err != nil {
			return nil, err
		}
		took = append(took, time.Since(sent))
	}
	return took.sorted(), nil
}

func reportChecks(s settings, all []*checking) {
	fmt.Printf("One check after the other, in a cluster of 3 voters and 1 replica; %d rounds of %s. With at_least_as_fresh the token is that of a write which the leader has acknowledged just before, so that the other nodes may have to wait for it. Ratios are of medians, by round: their median, and in brackets within what half of the rounds lay.\n\n", s.rounds, s.slice/3)
	var rows [][]string
	for _, k := range all {
		k.all.sorted()
		rows = append(rows, []string{k.place, k.mode, strconv.Itoa(len(k.all)), us(k.all.at(0.5)), us(k.all.at(0.99)), ratio(k.p50, all[0].p50)})
	}
	table([]string{"on", "mode", "checks", "p50", "p99", "p50 / echo's"}, rows)
}

// shareRounds makes many fully consistent checks at a time on a follower and
// counts the rounds that the leader ran for them.
func shareRounds(ctx context.Context, s settings, c *cluster, leader, follower *node) error {
	progress("fully consistent checks at a time")
	rounds := func() (uint64, error) {
		members, err := c.members(ctx, leader)
		for _, m := range members {
			if m.GetName() == leader.name {
				return m.GetReadIndexRounds(), nil
			}
		}
		return 0, err
	}
	before, err := rounds()
	if err != nil {
		return err
	}
	// What the nodes ask for by themselves, to know how old their state is.
	idle := s.slice
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	began, err := rounds()
	if err != nil {
		return err
	}
	took, rate, err := load{callers: consistentReads, during: s.slice}.drive(ctx, func(ctx context.Context, _, i int) error {
		return follower.check(ctx, 0, i*7919%checkedGrants, permissionsv1.Consistency_FULLY_CONSISTENT, "")
	})
	if err != nil {
		return err
	}
	ended, err := rounds()
	if err != nil {
		return err
	}
	fmt.Printf("\n%d callers at a time on a follower, fully consistent:\n\n", consistentReads)
	table([]string{"checks", "rounds of the leader", "checks a round", "checks/s", "p50", "p99", "rounds/s of the idle cluster"}, [][]string{{
		strconv.Itoa(len(took)), strconv.FormatUint(ended-began, 10), fmt.Sprintf("%.1f", float64(len(took))/float64(ended-began)),
		fmt.Sprintf("%.0f", rate), us(took.at(0.5)), us(took.at(0.99)), fmt.Sprintf("%.1f", float64(began-before)/idle.Seconds()),
	}})
	return nil
}
