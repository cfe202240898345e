package labs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
)

// Materials are the files that machines boot, by the name of the kernel in the experiment.
type Materials struct {
	Kernels map[string]Bootable
}

// Bootable is a kernel with its initramfs, as paths.
type Bootable struct {
	Image     string
	Initramfs string
}

// fetchKernels returns the kernels of an order. It downloads those that are not cached yet.
func (o Order) fetchKernels(ctx context.Context) (map[string]guest.Kernel, error) {
	kernels := map[string]guest.Kernel{}
	for _, s := range o.Scenarios {
		kernel, ok := kernels[s.DUT.Kernel]
		var err error
		switch {
		case ok:
		case s.DUT.KernelIsFile():
			kernel, err = guest.KernelFiles(s.DUT.Kernel, s.DUT.KernelModules)
		default:
			kernel, err = o.Store.Kernel(ctx, s.DUT.Kernel)
		}
		if err != nil {
			return nil, err
		}
		kernels[s.DUT.Kernel] = kernel
	}
	return kernels, nil
}

// self is this program, which becomes the guest's init. The link opens the running program even
// when the file has been replaced meanwhile.
const self = "/proc/self/exe"

// extras returns what scenarios need beyond every guest's modules and tools: modules that they load
// by name, where the kernel has them, the load balancer, and tools that refused lines name.
func extras(list []scenarios.Resolved) (modules, tools []string) {
	for _, s := range list {
		for _, module := range s.DUT.Modules.Load {
			name, _, _ := strings.Cut(module, " ")
			modules = append(modules, "?"+name)
		}
		modules = append(modules, valueModules(s.DUT.Sysctl)...)
		if s.DUT.IPVS != "" {
			modules = append(modules, "ip_vs", "ip_vs_*")
			tools = append(tools, "ipvsadm")
		}
		for _, line := range s.DUT.Setup {
			tools = append(tools, strings.Fields(line)[0])
		}
		if s.DUT.IPSet != "" {
			tools = append(tools, "ipset")
		}
		if slices.Contains(tools, "ipset") {
			modules = append(modules, "ip_set", "ip_set_*", "xt_set")
		}
		for _, line := range s.DUT.Refused {
			if strings.Fields(line)[0] == "sysctl" {
				tools = append(tools, "sysctl")
			}
		}
	}
	slices.Sort(tools)
	return modules, slices.Compact(tools)
}

// valueModules returns the modules behind sysctls: those that the kernel loads for a congestion
// control or a queueing discipline, and br_netfilter, which makes net.bridge.*.
func valueModules(settings scenarios.Settings) (modules []string) {
	for _, s := range settings {
		prefix := map[string]string{
			"net.ipv4.tcp_congestion_control":         "tcp_",
			"net.ipv4.tcp_allowed_congestion_control": "tcp_",
			"net.core.default_qdisc":                  "sch_",
		}[s.Key]
		for _, name := range strings.Fields(s.Value) {
			if prefix != "" {
				modules = append(modules, "?"+prefix+name)
			}
		}
		if strings.HasPrefix(s.Key, "net.bridge.") {
			modules = append(modules, "?br_netfilter")
		}
	}
	return modules
}

// materials makes an initramfs for each kernel of the order in folder, with this program as its
// init and further tools of the host. The kernels come from the cache: a sandbox has no network.
func (o Order) materials(ctx context.Context, folder string, further ...string) (Materials, error) {
	kernels, err := o.fetchKernels(ctx)
	if err != nil {
		return Materials{}, err
	}
	modules, tools := extras(o.Scenarios)
	tools = append(tools, further...)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Materials{}, fmt.Errorf("make the folder of the initramfs: %w", err)
	}
	materials := Materials{Kernels: map[string]Bootable{}}
	for name, kernel := range kernels {
		n := strconv.Itoa(len(materials.Kernels))
		path := filepath.Join(folder, "initramfs-"+n)
		if _, err := guest.BuildFile(path, guest.Spec{
			Init: self, Kernel: kernel, Carry: append(guest.DefaultCarry(), modules...),
			Tools: append(guest.DefaultTools(), tools...),
		}); err != nil {
			return Materials{}, err
		}
		image, err := guest.UnpackKernel(kernel.Image, filepath.Join(folder, "kernel-"+n))
		if err != nil {
			return Materials{}, err
		}
		materials.Kernels[name] = Bootable{Image: image, Initramfs: path}
	}
	return materials, nil
}

// prepareKernels fetches the kernels of an order, and checks that each can have an initramfs.
func prepareKernels(ctx context.Context, o Order) error {
	kernels, err := o.fetchKernels(ctx)
	if err != nil {
		return err
	}
	for _, kernel := range kernels {
		if err := guest.Build(io.Discard, guest.Spec{Init: self, Kernel: kernel}); err != nil {
			return err
		}
	}
	return nil
}
