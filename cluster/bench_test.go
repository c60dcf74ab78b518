package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

const benchCommandSize = 200

// bareSyncs measures how often a second a file can be appended to and synced in
// a folder: the disk's own speed.
func bareSyncs(b *testing.B, dir string) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := make([]byte, benchCommandSize)
	began, count := time.Now(), 0
	for time.Since(began) < 300*time.Millisecond {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
		count++
	}
	return float64(count) / time.Since(began).Seconds()
}

// BenchmarkApply compares commands acknowledged a second with bare syncs a second
// on the same disk in the same run (syncs/s; x-sync is the quotient).
func BenchmarkApply(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			dir := b.TempDir()
			n := startTest(b, testConfig(dir, &countFSM{}), options{})
			syncs := bareSyncs(b, dir)
			command := make([]byte, benchCommandSize)
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error, writers)
			b.ResetTimer()
			for range writers {
				go func() {
					for left.Add(-1) >= 0 {
						if _, _, err := n.Apply(context.Background(), command); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range writers {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "applies/s")
			b.ReportMetric(syncs, "syncs/s")
			b.ReportMetric(rate/syncs, "x-sync")
		})
	}
}

// BenchmarkReadIndex is a read index on a sole voter, alone and shared.
func BenchmarkReadIndex(b *testing.B) {
	n := startTest(b, testConfig(b.TempDir(), &countFSM{}), options{})
	mustReadIndex(b, n)
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			mustReadIndex(b, n)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.ReadIndex(context.Background()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
