package labs

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/scenarios"
)

// TestExtras_OfSysctls carries the modules that values of sysctls need.
func TestExtras_OfSysctls(t *testing.T) {
	modules, _ := extras([]scenarios.Resolved{{DUT: scenarios.Configuration{
		Sysctl: scenarios.Settings{
			{Key: "net.ipv4.tcp_congestion_control", Value: "htcp"},
			{Key: "net.core.default_qdisc", Value: "cake"},
			{Key: "net.bridge.bridge-nf-call-iptables", Value: "1"},
			{Key: "net.core.somaxconn", Value: "1"},
		},
	}}})
	want := []string{"?tcp_htcp", "?sch_cake", "?br_netfilter"}
	if !slices.Equal(modules, want) {
		t.Errorf("%v, want %v", modules, want)
	}
}
