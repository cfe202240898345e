package tuning

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// This file handles services of the kernel's load balancer (IPVS), as its tool ipvsadm saves and
// restores them.

func (k Kernel) applyIPVS(ctx context.Context, s Settings) error {
	if s.IPVS == "" {
		return nil
	}
	if err := step(ctx, "load module ip_vs", func() error { return k.Load(ctx, "ip_vs") }); err != nil {
		return err
	}
	return step(ctx, "load the IPVS services", func() error {
		_, err := k.run(ctx, terminated(s.IPVS), "ipvsadm", "-R")
		return err
	})
}

// readIPVS lists the services, if the settings have any.
func (k Kernel) readIPVS(ctx context.Context, s Settings, state *State) {
	if s.IPVS == "" {
		return
	}
	var err error
	state.IPVS, err = k.run(ctx, "", "ipvsadm", "-S", "-n")
	state.unread("ipvs", err)
}

// ipvsDifferences returns the services and servers of the settings that the kernel lacks.
func ipvsDifferences(s Settings, state State) []string {
	if s.IPVS == "" {
		return nil
	}
	if unread := state.Unread["ipvs"]; unread != "" {
		return []string{"the IPVS services could not be listed: " + unread}
	}
	var out []string
	loaded := ipvsServices(state.IPVS)
	for _, service := range ipvsServices(s.IPVS) {
		if !slices.Contains(loaded, service) {
			out = append(out, fmt.Sprintf("IPVS: %s is not in the kernel", service))
		}
	}
	return out
}

// ipvsServices returns the services and the servers in the input of ipvsadm -R: a line each with
// what identifies it, as "-A -t 10.0.0.1:80" or "-a -t 10.0.0.1:80 -r 10.0.1.2:80". It omits
// schedulers, weights and ways of forwarding, which have defaults.
func ipvsServices(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || strings.HasPrefix(words[0], "#") {
			continue
		}
		command := map[string]string{"-A": "-A", "--add-service": "-A", "-a": "-a", "--add-server": "-a"}[words[0]]
		service, server := "", ""
		for i := 1; i+1 < len(words); i++ {
			switch words[i] {
			case "-t", "--tcp-service":
				service = "-t " + words[i+1]
			case "-u", "--udp-service":
				service = "-u " + words[i+1]
			case "-f", "--fwmark-service":
				service = "-f " + words[i+1]
			case "-r", "--real-server":
				server = " -r " + words[i+1]
			}
		}
		if command != "" && service != "" {
			out = append(out, command+" "+service+server)
		}
	}
	return out
}
