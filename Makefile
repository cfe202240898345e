# Everything that a clone needs. `make demo` and `make test` do their own set-up.

# .ci/go runs the user's own Go where it is new enough, and brings one elsewhere.
GO       ?= ./.ci/go
# Without git the version is empty, and the program takes it from its build information.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
BINARY   := bin/ctload
# The same binary is PID 1 of the guests, so that it has to be static and small.
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

# An ordinary user of Debian has no sbin on the PATH.
export PATH := $(PATH):/usr/sbin:/sbin
export GO
# Go comes before packages, and packages before what needs them.
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: modules
modules: # Go, where there is none that can build this, and the modules
	@$(GO) version && ./.ci/retry $(GO) mod download

.PHONY: build
build: modules ## build bin/ctload
	$(BUILD) -o $(BINARY) ./cmd/ctload

.PHONY: demo
demo: modules deps build userns ## install what is missing, then compare four scenarios
	$(BINARY) run table-full

.PHONY: userns
userns: # where AppArmor keeps user namespaces from users (Ubuntu 24.04), allow them to ctload
	@if [ "$$(id -u)" != 0 ] && [ ! -e /etc/apparmor.d/ctload ] && \
		grep -qs 1 /proc/sys/kernel/apparmor_restrict_unprivileged_userns; then \
		sudo $(MAKE) apparmor-profile; \
	fi

.PHONY: test
test: modules deps test-deps build ## install what the tests need and run all of them
	@# Two packages at a time, the longest first. It waits more than it computes until its own
	@# machines come, so that the others with machines, and those that compute, come next. More
	@# machines at once would spoil trials, which are then measured again. make lint vets the code.
	CTLOAD_NO_SKIP=1 $(GO) test -vet=off -race -p 2 -parallel 4 -timeout 60m \
		./cmd/ctload ./orchestrator ./vm/guest ./vm/libvirt/shared ./scenarios ./results \
		./reports ./...

.PHONY: test-long
test-long: modules deps test-deps library-deps build ## and what takes minutes: hours in all
	CTLOAD_NO_SKIP=1 CTLOAD_LONG=1 CTLOAD_SOAK=10m $(GO) test -race -p 1 -parallel 4 \
		-timeout 240m ./...

.PHONY: soak
soak: modules deps test-deps build ## 1000 kills and other disturbances: about an hour
	CTLOAD_NO_SKIP=1 CTLOAD_KILLS=$${KILLS:-1000} $(GO) test ./cmd/ctload -run '^TestSoak$$' -v \
		-parallel 2 -timeout 240m

.PHONY: fuzz
fuzz: modules ## every fuzz target for ten minutes; Go's cache keeps the corpus
	@for file in $$(grep -rl --include=*_test.go '^func Fuzz' .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			$(GO) test ./$$(dirname $$file) -run '^$$' -fuzz "^$$name\$$" \
				-fuzztime $${FUZZTIME:-10m} || exit 1; done; done

.PHONY: library
library: modules deps build userns library-deps ## run every shipped experiment
	@rm -rf bin/library; mkdir -p bin/library; failed=; all=$$(date +%s); \
	for name in $$($(BINARY) scenarios list --names); do \
		start=$$(date +%s); want=0; [ $$name != generator-limit ] || want=4; \
		$(BINARY) run $$name --out bin/library/$$name >bin/library/$$name.log 2>&1; got=$$?; \
		said=ok; \
		[ $$got = $$want ] || { said="FAILED, exit status $$got"; failed="$$failed $$name"; }; \
		printf '%-24s %4d s  %s\n' $$name $$(($$(date +%s) - start)) "$$said"; \
		[ $$got = $$want ] || tail -n 20 bin/library/$$name.log; \
	done; printf '%-24s %4d s\n' 'all of them' $$(($$(date +%s) - all)); \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }
	@# Synthetic productions, captured and replayed.
	CTLOAD_LONG=1 $(GO) test ./cmd/ctload -run '^Test(Productions|Capture_)' -parallel 4 \
		-timeout 30m

# The matrix of docs/results/loads.md. KERNEL is a name or the path of an image; SEARCH= leaves out
# the highest rates, which take hours.
KERNEL   ?= debian/bookworm
SHARD    ?= 1/1
TRIALS   ?= 3
SEARCH   ?= yes
LOADS    ?= short-tcp held-churn unanswered-udp syn-flood dns-pairs
FOUND    := bin/results/$(notdir $(KERNEL))

.PHONY: results
results: build ## measure docs/results: KERNEL=debian/trixie SHARD=2/5 TRIALS=3 LOADS=syn-flood
	@# What a killed job left is measured again. Where trials stayed INVALID (4), the other loads
	@# are measured all the same, and the shard is to be made again.
	@invalid=; for load in $(LOADS); do \
		file=docs/results/loads/$$load.yaml; at=$(FOUND)/$$load/$(subst /,-,$(SHARD)); \
		goal=$$(sed -n 's/^x-highest: //p' $$file); \
		rm -rf $$at $$at-highest; \
		$(BINARY) run $$file --kernel $(KERNEL) --trials $(TRIALS) --shard $(SHARD) --out $$at; \
		got=$$?; case $$got in 0) ;; 4) invalid="$$invalid $$load" ;; *) exit $$got ;; esac; \
		[ -n "$(SEARCH)" ] || continue; \
		$(BINARY) search $$file --kernel $(KERNEL) --highest rate:$$goal --shard $(SHARD) \
			--out $$at-highest; \
		got=$$?; case $$got in 0) ;; 4) invalid="$$invalid $$load" ;; *) exit $$got ;; esac; \
	done; [ -z "$$invalid" ] || { echo "INVALID trials, make the shard again:$$invalid"; exit 4; }

.PHONY: results-merge
results-merge: build ## join the shards of make results, and write their figures and the page
	@mkdir -p docs/results/runs/$(notdir $(KERNEL))
	@for load in $(LOADS); do \
		into=docs/results/runs/$(notdir $(KERNEL))/$$load; rm -rf $(FOUND)/$$load/merged*; \
		$(BINARY) merge $(FOUND)/$$load/*[0-9] --out $(FOUND)/$$load/merged; \
		got=$$?; [ $$got = 0 ] || [ $$got = 4 ] || exit $$got; \
		cp $(FOUND)/$$load/merged/run.json $$into.json; \
		[ -z "$(SEARCH)" ] || { \
			$(BINARY) merge $(FOUND)/$$load/*-highest --out $(FOUND)/$$load/merged-highest && \
			cp $(FOUND)/$$load/merged-highest/search.json $$into-highest.json; } || exit 1; \
	done
	$(GO) test -vet=off ./cmd/ctload -run '^TestLoadsPage$$' -update

.PHONY: fleet-check
fleet-check: modules ## the texts of docs/fleet by the engines' own types and linters
	$(GO) test -C docs/fleet/validate ./...

.PHONY: fleet-apiserver
fleet-apiserver: modules ## the Jobs of docs/fleet by an API server of Kubernetes that this builds
	@./.ci/install fleet
	docs/fleet/validate/apiserver

.PHONY: test-short
test-short: build ## the tests that need neither virtual machines nor a network
	@# They wait more than they work; make test has the race detector.
	$(GO) test -vet=off -short -p 4 ./...

.PHONY: bench
bench: modules deps test-deps build ## measure beside the peers, as ratios
	$(GO) run ./bench
	$(GO) run ./bench/boot -ctload $(BINARY)

.PHONY: lint
lint: modules ## golangci-lint, govulncheck and go vet
	./.ci/lint

.PHONY: deps
deps: ## install what ctload needs at run time
	@./.ci/install run

.PHONY: test-deps
test-deps: ## install what only the tests and benchmarks need
	@./.ci/install test

.PHONY: library-deps
library-deps: # what only the longest experiments need
	@./.ci/install long

.PHONY: release
release: modules ## make archives, packages, SBOMs and checksums in dist/; VERSION=v1.2.3
	@./.ci/release "$(VERSION)"

.PHONY: release-test
release-test: release ## and install the .deb on a minimal system, as root, and run it there
	@./.ci/release-test

.PHONY: apparmor-profile
apparmor-profile: build ## let ctload make user namespaces under AppArmor (Ubuntu 24.04), as root
	printf '%s\n' 'abi <abi/4.0>,' 'include <tunables/global>' \
		'profile ctload $(abspath $(BINARY)) flags=(unconfined) {' '  userns,' '}' \
		> /etc/apparmor.d/ctload
	apparmor_parser -r /etc/apparmor.d/ctload

.PHONY: clean
clean: ## remove what was built; run folders stay
	rm -rf bin dist
