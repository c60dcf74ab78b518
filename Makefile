GO ?= go
BUF := $(GO) tool -modfile=scripts/tools/buf/go.mod buf

# How long each fuzz target and each benchmark runs: make fuzz FUZZTIME=1m
FUZZTIME ?= 10s
BENCHTIME ?= 1s
export GO FUZZTIME

.DEFAULT_GOAL := help
.PHONY: help build test race lint bench fuzz proto run tour tenants measure nightly clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/remit
	$(GO) build -o bin/remit ./cmd/remit

test: ## run the tests
	$(GO) test ./...

race: ## run the tests under the race detector (needs a C compiler)
	$(GO) test -race -timeout 20m ./...

lint: ## check format, vet, staticcheck, imports, generated code and go.mod
	scripts/lint

# One package at a time: benchmarks beside each other measure each other.
bench: build ## run the benchmarks (BENCHTIME=1s each), then Check against a bare gRPC echo
	$(GO) test -p 1 -timeout 60m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r -n 1 dirname | sort -u)
	$(GO) run ./scripts/bench -benchtime $(BENCHTIME)

fuzz: ## run every fuzz target (FUZZTIME=10s each)
	scripts/fuzz

proto: ## regenerate the Go code from the protos
	$(BUF) format -w
	$(BUF) generate

run: build ## build and run three nodes with sample data (Ctrl-C ends them)
	scripts/run

tour: ## run what README.md shows and compare the output
	$(GO) run ./scripts/tour

tenants: build ## measure many tenants on one node (TENANTS="-organisations 100 -grants 100000")
	$(GO) run ./scripts/tenants $(TENANTS)

measure: build ## measure clusters: forming, recovery, commits, checks, disk (MEASURE="-only recovery")
	$(GO) run ./scripts/measure $(MEASURE)

nightly: tenants measure ## run the long tests, fuzz each target for two minutes, measure tenants and clusters
	REMIT_NIGHTLY=1 $(GO) test -count=1 -timeout 80m ./...
	FUZZTIME=2m scripts/fuzz

clean: ## remove what was built
	rm -rf bin
