# make help says what there is.

GO    ?= go
# How long each fuzz target looks for something new in `make fuzz`.
FUZZTIME ?= 10s
# What `bin/ingestgw version` says. Empty, where there is no git, it is what Go makes of the source.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: help run run-kafka test static race whole fuzz lint fmt build bench docs servers clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## A VictoriaMetrics cluster, ingestgw and a vmagent on this machine, until Ctrl-C
	@$(GO) build -o bin/run ./internal/stack/run && exec bin/run

run-kafka: ## The same with Apache Kafka, where ingestgw then keeps its backlog
	@$(GO) build -o bin/run ./internal/stack/run && exec bin/run -kafka -dir .run-kafka

test: static race whole ## Everything: format, vet, lint, race, unit, fuzz seeds, and tests with the real servers
	@echo "== all stages passed"

# stage runs a command, says how long it took, and fails with it.
define stage
	@echo "== $(1)"; began=$$(date +%s); $(2) && echo "== $(1): passed in $$(( $$(date +%s) - began )) s"
endef

static: ## Format, vet, lint
	$(call stage,format,test -z "$$(gofmt -l . | tee /dev/stderr)")
	$(call stage,vet,$(GO) vet ./...)
	$(call stage,lint,"$$($(GO) run ./internal/stack/install golangci-lint)" run ./...)

race: ## Unit tests and fuzz seeds under the race detector
	$(call stage,race,$(GO) test -race -short -timeout 10m ./...)

servers: ## Install the real servers that tests use (once, then cached); as root on Debian, Java, Maven, npm and Chromium too
	$(call stage,servers,$(GO) run ./internal/stack/install > /dev/null)

# One package at a time: each runs servers of its own, and on two cores those of several starve each other.
whole: servers ## All tests, with the real servers
	$(call stage,whole,$(GO) test -p 1 -timeout 25m ./...)

fuzz: ## Let every fuzz target look for something new for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz || true); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg || exit 1; \
		done; \
	done

lint: ## The linter alone
	"$$($(GO) run ./internal/stack/install golangci-lint)" run ./...

fmt: ## Format the code
	gofmt -w .

build: ## Build bin/ingestgw
	$(GO) build -ldflags '-X main.release=$(VERSION)' -o bin/ ./cmd/ingestgw

bench: ## Benchmarks beside the hot path
	$(GO) test -run '^$$' -bench . -benchmem ./...

docs: ## Write docs/configuration.md and docs/alarms.md anew from the program
	$(GO) run ./cmd/ingestgw config -markdown > docs/configuration.md
	$(GO) run ./cmd/ingestgw alarms -markdown > docs/alarms.md

clean: ## Remove what was built and what `make run` and `make run-kafka` left behind
	rm -rf bin .run .run-kafka
