package main

import (
	"context"
	"fmt"
	"time"
)

// measureForming forms clusters of three, one after the other.
func measureForming(ctx context.Context, s settings) error {
	var took latencies
	for run := range s.forms {
		progress("forming cluster %d of %d", run+1, s.forms)
		c, forming, err := formCluster(ctx, s, fleet{voters: 3})
		if err != nil {
			return err
		}
		c.end()
		took = append(took, forming)
	}
	took.sorted()
	table([]string{"from the start of three processes until all are ready", "median", "worst"}, [][]string{
		{fmt.Sprintf("%d clusters", len(took)), seconds(took.at(0.5)), seconds(took.max())},
	})
	return s.promise("forming a cluster", took.max(), 10*time.Second)
}
