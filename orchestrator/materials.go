package orchestrator

import (
	"context"
	"fmt"
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

// fetchKernels finds the kernels of a plan, through the network where they are not cached yet.
func fetchKernels(ctx context.Context, plan *Plan, store *guest.Store) (map[string]guest.Kernel, error) {
	kernels := map[string]guest.Kernel{}
	for _, s := range plan.Scenarios {
		if _, ok := kernels[s.DUT.Kernel]; ok {
			continue
		}
		kernel, err := findKernel(ctx, store, s.DUT)
		if err != nil {
			return nil, err
		}
		kernels[s.DUT.Kernel] = kernel
	}
	return kernels, nil
}

func findKernel(ctx context.Context, store *guest.Store, dut scenarios.Configuration) (guest.Kernel, error) {
	if isPath(dut.Kernel) {
		return guest.KernelFiles(dut.Kernel, dut.KernelModules)
	}
	return store.Kernel(ctx, dut.Kernel)
}

// isPath reports whether a kernel is named by the path of its image.
func isPath(kernel string) bool {
	return strings.HasPrefix(kernel, "/") || strings.HasPrefix(kernel, ".")
}

// self is this program, which becomes the guest's init. The link opens the running one even when the
// file has been replaced meanwhile.
const self = "/proc/self/exe"

// extras are the modules and tools that a plan needs beyond what every guest has: modules that its
// scenarios load by name, where the kernel has them, the tool of the load balancer, and those that refuse
// command lines.
func extras(plan *Plan) (modules, tools []string) {
	for _, s := range plan.Scenarios {
		for _, module := range s.DUT.Modules.Load {
			name, _, _ := strings.Cut(module, " ")
			modules = append(modules, "?"+name)
		}
		if s.DUT.IPVS != "" && len(tools) == 0 {
			modules = append(modules, "ip_vs", "ip_vs_*")
			tools = append(tools, "ipvsadm")
		}
	}
	return modules, append(tools, refusingTools(plan)...)
}

// buildMaterials makes an initramfs for each kernel of a plan in folder, with this program as its init, and with
// further tools of the host (see guest.Spec).
func buildMaterials(plan *Plan, kernels map[string]guest.Kernel, folder string, further ...string) (Materials, error) {
	modules, tools := extras(plan)
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
