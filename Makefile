# Everything that a clone needs. `make demo` and `make test` do their own set-up.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BINARY   := bin/ctload
# The same binary is PID 1 of the guests, so that it has to be static and small.
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/ctload
	$(BUILD) -o $(BINARY) ./cmd/ctload

.PHONY: demo
demo: deps build userns ## install what is missing, then compare four scenarios in four virtual machines
	$(BINARY) run table-full

.PHONY: userns
userns: # where AppArmor keeps user namespaces from ordinary users (Ubuntu 24.04), allow them to ctload
	@if [ "$$(id -u)" != 0 ] && [ "$$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ] && [ ! -e /etc/apparmor.d/ctload ]; then \
		sudo $(MAKE) apparmor-profile; \
	fi

.PHONY: test
test: deps test-deps build ## install what the tests need and run all of them, virtual machines included
	CTLOAD_NO_SKIP=1 $(GO) test -race -p 1 -parallel 4 -timeout 60m ./... # one package at a time: machines and generators want the CPUs

.PHONY: test-long
test-long: deps test-deps library-deps build ## the same and what takes minutes: every shipped experiment, built boxes, ten minutes of load; hours in all
	CTLOAD_NO_SKIP=1 CTLOAD_LONG=1 CTLOAD_SOAK=10m $(GO) test -race -p 1 -parallel 4 -timeout 240m ./...

.PHONY: library
library: deps build userns library-deps ## run every shipped experiment: the faults must show and the cures must hold
	@rm -rf bin/library; mkdir -p bin/library; failed=; all=$$(date +%s); for name in $$($(BINARY) scenarios list | awk '{print $$1}'); do \
		start=$$(date +%s); want=0; [ $$name != generator-limit ] || want=4; \
		$(BINARY) run $$name --out bin/library/$$name >bin/library/$$name.log 2>&1; got=$$?; \
		said=ok; [ $$got = $$want ] || { said="FAILED, exit status $$got"; failed="$$failed $$name"; }; \
		printf '%-24s %4d s  %s\n' $$name $$(($$(date +%s) - start)) "$$said"; \
		[ $$got = $$want ] || tail -n 20 bin/library/$$name.log; \
	done; printf '%-24s %4d s\n' 'all of them' $$(($$(date +%s) - all)); [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

.PHONY: test-short
test-short: build ## the tests that need neither virtual machines nor a network
	$(GO) test -race -short ./...

.PHONY: bench
bench: deps test-deps build ## measure beside the peers, as ratios
	$(GO) run ./bench
	$(GO) run ./bench/boot -ctload $(BINARY)

.PHONY: lint
lint: ## golangci-lint, govulncheck and go vet
	./.ci/lint

.PHONY: deps
deps: ## install what ctload needs at run time
	@./.ci/install qemu-system-x86_64=qemu-system-x86 libvirtd=libvirt-daemon /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so=libvirt-daemon-driver-qemu \
		iptables=iptables nft=nftables dpkg-deb=dpkg /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring \
		$$(grep -q '^ID=debian' /etc/os-release || echo debootstrap=debootstrap)

.PHONY: test-deps
test-deps: ## install what only the tests and benchmarks need
	@./.ci/install gcc=gcc ip=iproute2 depmod=kmod conntrack=conntrack ab=apache2-utils wrk=wrk hping3=hping3 trafgen=netsniff-ng h2load=nghttp2-client nginx=nginx-light \
		xmllint=libxml2-utils chromium=chromium ssh=openssh-client \
		vagrant=vagrant /usr/share/rubygems-integration/all/gems/vagrant-libvirt-*=vagrant-libvirt qemu-img=qemu-utils dnsmasq=dnsmasq-base mmdebstrap=mmdebstrap

.PHONY: library-deps
library-deps: # ipvs-reuse sets up the kernel's load balancer with its own tool
	@./.ci/install ipvsadm=ipvsadm

.PHONY: apparmor-profile
apparmor-profile: build ## let ctload make user namespaces where AppArmor forbids them (Ubuntu 24.04), as root
	printf 'abi <abi/4.0>,\ninclude <tunables/global>\nprofile ctload %s flags=(unconfined) {\n  userns,\n}\n' '$(abspath $(BINARY))' > /etc/apparmor.d/ctload
	apparmor_parser -r /etc/apparmor.d/ctload

.PHONY: clean
clean: ## remove what was built; run folders stay
	rm -rf bin
