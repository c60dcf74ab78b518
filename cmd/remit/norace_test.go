//go:build !race

package main_test

// raceDetector is true where the tests run under the race detector; the binary
// they start is then built with it too.
const raceDetector = false
