package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
)

// Scheduled implements [vm.Hosted] by libvirt's vcpu.N.time and vcpu.N.delay (libvirt 7.2), which are in
// nanoseconds; the delay comes from the host's schedstat.
func (m *machine) Scheduled(ctx context.Context) (vm.Scheduled, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	params, err := m.lab.virt.vcpuStats(ctx, m.running())
	if err != nil {
		return vm.Scheduled{}, m.lab.explain("ask for the CPUs of "+m.name, err)
	}
	return scheduled(params)
}

func scheduled(params []golibvirt.TypedParam) (vm.Scheduled, error) {
	var s vm.Scheduled
	delays := 0
	for _, p := range params {
		ns, ok := p.Value.I.(uint64)
		if !ok || !strings.HasPrefix(p.Field, "vcpu.") {
			continue
		}
		switch {
		case strings.HasSuffix(p.Field, ".time"):
			s.Ran += time.Duration(ns)
		case strings.HasSuffix(p.Field, ".delay"):
			s.Waited += time.Duration(ns)
			delays++
		}
	}
	if delays == 0 {
		return s, errors.New("libvirt does not tell how long CPUs waited (from 7.2 on it does, where the host's kernel keeps schedstat)")
	}
	return s, nil
}

// vcpuStats are libvirt's figures of a domain's CPUs.
func (c *connection) vcpuStats(ctx context.Context, domain golibvirt.Domain) ([]golibvirt.TypedParam, error) {
	records, err := within(ctx, c, func() ([]golibvirt.DomainStatsRecord, error) {
		return c.virt.ConnectGetAllDomainStats([]golibvirt.Domain{domain}, uint32(golibvirt.DomainStatsVCPU), 0)
	})
	if err != nil {
		return nil, err
	}
	if len(records) != 1 {
		return nil, fmt.Errorf("figures of %d domains for one", len(records))
	}
	return records[0].Params, nil
}

var _ vm.Hosted = (*machine)(nil)
