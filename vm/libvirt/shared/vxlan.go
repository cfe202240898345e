package shared

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// vxlan carries links between hosts that share only their management network: on each an isolated
// libvirt network, and in its bridge a VXLAN device (RFC 7348) with the other hosts as peers.
// libvirt makes no such devices: ip(8) makes them, through ssh, or on this host where the daemon is
// this host's. That needs root there, directly or through sudo without a password.
type vxlan struct {
	options   Options
	hosts     []*hypervisor
	addresses map[*hypervisor]string

	mu    sync.Mutex
	links map[string]bool // those that exist
}

// vxlanMTU is the MTU, in bytes, that a frame of 1500 bytes leaves, with IPv6 outside.
const vxlanMTU = 1430

// vxlanPort is the UDP port that IANA assigns.
const vxlanPort = 4789

func newVXLAN(options Options, hosts []*hypervisor) (*vxlan, error) {
	for _, h := range hosts {
		if h.at.Transport != "ssh" && !h.at.Here() {
			return nil, h.lacks("--network NAME, which all hosts have, or qemu+ssh://",
				"a VXLAN between the hosts cannot be made through qemu+%s", h.at.Transport)
		}
	}
	return &vxlan{options: options, hosts: hosts, links: map[string]bool{}}, nil
}

func (v *vxlan) hint() string {
	return fmt.Sprintf("let UDP port %d pass between the hosts, "+
		"or name a network that all have with --network", vxlanPort)
}

func (v *vxlan) card(ctx context.Context, h *hypervisor, link string) (libvirt.Card, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.links[link] {
		if err := v.make(ctx, link); err != nil {
			return libvirt.Card{}, err
		}
		v.links[link] = true
	}
	network, err := h.network(ctx, link, vxlanMTU)
	// libvirt does not announce the network's MTU to the machine.
	return libvirt.Card{Network: network, MTU: vxlanMTU}, err
}

// make makes a link on all hosts.
func (v *vxlan) make(ctx context.Context, link string) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	if v.addresses == nil {
		if err := v.findAddresses(ctx); err != nil {
			return err
		}
	}
	for _, h := range v.hosts {
		name, err := h.network(ctx, link, vxlanMTU)
		if err != nil {
			return err
		}
		bridge, err := libvirt.Within(ctx, h.virt, func() (string, error) {
			network, err := h.virt.NetworkLookupByName(name)
			if err != nil {
				return "", err
			}
			return h.virt.NetworkGetBridgeName(network)
		})
		if err != nil {
			return h.refused(err, "name the bridge of network "+name)
		}
		made, err := h.record(vxlanDevice, "ctvx"+newUUID()[:8], "")
		if err != nil {
			return err
		}
		if _, err := h.at.Run(ctx, v.script(h, made.Name, link, bridge)); err != nil {
			return h.lacks("root there (or sudo without a question) and iproute2, or --network",
				"a VXLAN could not be made: %v", err)
		}
	}
	return nil
}

// script returns the commands that make one host's end of a link.
func (v *vxlan) script(h *hypervisor, device, link, bridge string) string {
	id := fnv.New32a()
	_, _ = id.Write([]byte(v.options.Run + "/" + link))
	var s strings.Builder
	fmt.Fprintf(&s, "ip link add %s type vxlan id %d local %s dstport %d\n",
		device, id.Sum32()>>8, v.addresses[h], vxlanPort)
	fmt.Fprintf(&s, "ip link set %s txqueuelen 10000 alias 'ctload %s'\n", device, v.options.Run)
	for _, peer := range v.hosts {
		if peer != h { // receives broadcasts and frames to unknown addresses
			fmt.Fprintf(&s, "bridge fdb append 00:00:00:00:00:00 dev %s dst %s\n",
				device, v.addresses[peer])
		}
	}
	fmt.Fprintf(&s, "ip link set %s master %s up", device, bridge)
	return s.String()
}

// findAddresses asks every host for its address that the others can reach: over ssh, the one that
// ssh connected to; for this host, its source address towards the first of the others.
func (v *vxlan) findAddresses(ctx context.Context) error {
	addresses := map[*hypervisor]string{}
	ask := func(h *hypervisor, script string) (string, error) {
		out, err := h.at.Shell(ctx, script)
		addresses[h] = strings.TrimSpace(out)
		if err == nil && addresses[h] == "" {
			err = errors.New("no answer")
		}
		if err != nil {
			err = h.lacks("ssh to it must work, or --network NAME",
				"it does not tell its address that the other hosts can reach: %v", err)
		}
		return addresses[h], err
	}
	var peer string
	var err error
	for _, h := range v.hosts {
		if h.at.Transport == "ssh" {
			if peer, err = ask(h, `set -- $SSH_CONNECTION; echo "$3"`); err != nil {
				return err
			}
		}
	}
	for _, h := range v.hosts {
		if h.at.Here() {
			route := "PATH=$PATH:/usr/sbin:/sbin ip -o route get " + libvirt.Quote(peer)
			if _, err = ask(h, route+` | sed 's/.* src \([^ ]*\).*/\1/'`); err != nil {
				return err
			}
		}
	}
	v.addresses = addresses
	return nil
}

// existsVXLAN reports whether a device exists.
func existsVXLAN(ctx context.Context, e journal.Entry) (bool, error) {
	out, err := whereVXLAN(ctx, e, "echo there")
	return strings.TrimSpace(out) == "there", err
}

// removeVXLAN removes a device; a missing one is no error.
func removeVXLAN(ctx context.Context, e journal.Entry) error {
	_, err := whereVXLAN(ctx, e, "ip link del "+e.Name+" type vxlan")
	return err
}

// whereVXLAN runs a command on the host of a device if the device exists.
func whereVXLAN(ctx context.Context, e journal.Entry, command string) (string, error) {
	at, err := libvirt.ParseEndpoint(e.Where)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	return at.Run(ctx, "[ ! -e /sys/class/net/"+e.Name+" ] || "+command)
}
