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

// Scheduled returns how long a domain ran and waited, from the figures of [Connection.VCPUStats].
func Scheduled(params []golibvirt.TypedParam) (vm.Scheduled, error) {
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

// VCPUStats returns libvirt's figures of a domain's CPUs.
func (c *Connection) VCPUStats(ctx context.Context, domain golibvirt.Domain) ([]golibvirt.TypedParam, error) {
	records, err := Within(ctx, c, func() ([]golibvirt.DomainStatsRecord, error) {
		return c.Virt.ConnectGetAllDomainStats([]golibvirt.Domain{domain}, uint32(golibvirt.DomainStatsVCPU), 0)
	})
	if err != nil {
		return nil, err
	}
	if len(records) != 1 {
		return nil, fmt.Errorf("figures of %d domains for one", len(records))
	}
	return records[0].Params, nil
}
