package shared

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"github.com/ctload/ctload/vm/guest"
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
	links map[string]int // number of each existing link
}

// vxlanMTU, in bytes, is what a frame of 1500 bytes leaves, with IPv6 outside.
const vxlanMTU = 1430

// vxlanPort is the UDP port that IANA assigns.
const vxlanPort = 4789

func newVXLAN(options Options, hosts []*hypervisor) (*vxlan, error) {
	for _, h := range hosts {
		if h.at.Transport != "ssh" && !h.at.Here() {
			return nil, &guest.MissingError{
				What: fmt.Sprintf("%s: a VXLAN between the hosts cannot be made through qemu+%s", h.at.Name(), h.at.Transport),
				Fix:  "--network NAME, a bridge or libvirt network that all hosts have; or qemu+ssh://",
			}
		}
	}
	return &vxlan{options: options, hosts: hosts, links: map[string]int{}}, nil
}

func (v *vxlan) leaves() bool { return true }

func (v *vxlan) hint() string {
	return fmt.Sprintf("let UDP port %d pass between the hosts, or name a network that all have with --network", vxlanPort)
}

func (v *vxlan) card(ctx context.Context, h *hypervisor, link string) (libvirt.Card, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.links[link]; !ok {
		if err := v.make(ctx, link); err != nil {
			return libvirt.Card{}, err
		}
		v.links[link] = len(v.links)
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
			network, err := h.virt.Virt.NetworkLookupByName(name)
			if err != nil {
				return "", err
			}
			return h.virt.Virt.NetworkGetBridgeName(network)
		})
		if err != nil {
			return h.refused(err, "name the bridge of network "+name)
		}
		made, err := h.record(vxlanDevice, "ctvx"+newUUID()[:8], "")
		if err != nil {
			return err
		}
		if _, err := h.at.Run(ctx, v.script(h, made.Name, link, bridge)); err != nil {
			return h.lacks("root there (or sudo without a question) and iproute2; or --network NAME", "a VXLAN could not be made: %v", err)
		}
	}
	return nil
}

// script returns the commands that make one host's end of a link.
func (v *vxlan) script(h *hypervisor, device, link, bridge string) string {
	id := fnv.New32a()
	_, _ = id.Write([]byte(v.options.Run + "/" + link))
	lines := []string{
		fmt.Sprintf("ip link add %s type vxlan id %d local %s dstport %d", device, id.Sum32()>>8, v.addresses[h], vxlanPort),
		fmt.Sprintf("ip link set %s txqueuelen 10000 alias %s", device, libvirt.Quote("ctload "+v.options.Run)),
	}
	for _, peer := range v.hosts {
		if peer != h { // receives broadcasts and frames to unknown addresses
			lines = append(lines, fmt.Sprintf("bridge fdb append 00:00:00:00:00:00 dev %s dst %s", device, v.addresses[peer]))
		}
	}
	return strings.Join(append(lines, fmt.Sprintf("ip link set %s master %s up", device, bridge)), "\n")
}

// findAddresses asks every host for its address that the others can reach: over ssh, the one that
// ssh connected to; for this host, its source address towards the first of the others.
func (v *vxlan) findAddresses(ctx context.Context) error {
	addresses := map[*hypervisor]string{}
	var peer string
	for _, h := range v.hosts {
		if h.at.Transport != "ssh" {
			continue
		}
		out, err := h.at.Shell(ctx, `set -- $SSH_CONNECTION; echo "$3"`)
		if err != nil {
			return h.lacks("ssh to it must work", "it does not tell its address: %v", err)
		}
		addresses[h] = strings.TrimSpace(out)
		peer = addresses[h]
	}
	for _, h := range v.hosts {
		if !h.at.Here() {
			continue
		}
		out, err := h.at.Run(ctx, "ip -o route get "+peer+` | sed 's/.* src \([^ ]*\).*/\1/'`)
		if err != nil || peer == "" {
			return h.lacks("--network NAME", "which of its addresses the other hosts can reach is not known: %v", err)
		}
		addresses[h] = strings.TrimSpace(out)
	}
	for h, address := range addresses {
		if address == "" {
			return h.lacks("--network NAME", "it does not tell its address")
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
