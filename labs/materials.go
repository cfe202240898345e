package labs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
)

// Materials are what machines boot, by the name of the kernel in the experiment.
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
		if _, ok := kernels[s.DUT.Kernel]; ok {
			continue
		}
		kernel, err := findKernel(ctx, o.Store, s.DUT)
		if err != nil {
			return nil, err
		}
		kernels[s.DUT.Kernel] = kernel
	}
	return kernels, nil
}

func findKernel(ctx context.Context, store *guest.Store, dut scenarios.Configuration) (guest.Kernel, error) {
	if dut.KernelIsFile() {
		return guest.KernelFiles(dut.Kernel, dut.KernelModules)
	}
	return store.Kernel(ctx, dut.Kernel)
}

// self is this program, which becomes the guest's init. The link opens the running program even
// when the file has been replaced meanwhile.
const self = "/proc/self/exe"

// extras returns the modules and tools that scenarios need beyond those of every guest: modules
// that they load by name, where the kernel has them, the tool of the load balancer, and tools that
// refuse command lines.
func extras(list []scenarios.Resolved) (modules, tools []string) {
	for _, s := range list {
		for _, module := range s.DUT.Modules.Load {
			name, _, _ := strings.Cut(module, " ")
			modules = append(modules, "?"+name)
		}
		if s.DUT.IPVS != "" && len(tools) == 0 {
			modules = append(modules, "ip_vs", "ip_vs_*")
			tools = append(tools, "ipvsadm")
		}
	}
	return modules, append(tools, refusingTools(list)...)
}

// refusingTools returns the programs beyond those of every guest that refused command lines name.
func refusingTools(list []scenarios.Resolved) []string {
	for _, s := range list {
		for _, line := range s.DUT.Refused {
			if strings.Fields(line)[0] == "sysctl" {
				return []string{"sysctl"}
			}
		}
	}
	return nil
}

// materials makes an initramfs for each kernel of the order in folder, with this program as its
// init, and with further tools of the host (see guest.Spec). The kernels come from the cache: the
// sandbox has no network.
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
		path := filepath.Join(folder, fmt.Sprintf("initramfs-%d", len(materials.Kernels)))
		if _, err := guest.BuildFile(path, guest.Spec{
			Init: self, Kernel: kernel, Carry: append(guest.DefaultCarry(), modules...), Tools: append(guest.DefaultTools(), tools...),
		}); err != nil {
			return Materials{}, err
		}
		image, err := guest.UnpackKernel(kernel.Image, filepath.Join(folder, fmt.Sprintf("kernel-%d", len(materials.Kernels))))
		if err != nil {
			return Materials{}, err
		}
		materials.Kernels[name] = Bootable{Image: image, Initramfs: path}
	}
	return materials, nil
}

// prepareKernels fetches the kernels of an order, and checks that an initramfs can be made for
// each.
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
