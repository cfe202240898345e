package orchestrator

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// Embedded says how to run a plan in the embedded lab.
type Embedded struct {
	Plan        *Plan
	Store       *guest.Store
	Cache       string // folder for what was found out about the host; see libvirt.Options
	Out         string // path of the run folder, which is made
	Accelerator string // kvm, tcg or empty; see libvirt.Options
	View        View
	Baseline    *results.Baseline // see Request
	ID          string
	Version     string
}

// RunEmbedded runs a plan in a lab inside the sandbox that this process is in: kernels and initramfs,
// a libvirt daemon of its own, the trials, and the end of all of it.
func RunEmbedded(ctx context.Context, e Embedded) (run *results.Run, err error) {
	kernels, err := FetchKernels(ctx, e.Plan, e.Store) // from the cache: the sandbox has no network
	if err != nil {
		return nil, err
	}
	materials, err := BuildMaterials(kernels, filepath.Join(sandbox.RuntimeDir, "guest"))
	if err != nil {
		return nil, err
	}
	folder, err := results.Create(e.Out)
	if err != nil {
		return nil, err
	}
	asRun, err := e.Plan.Experiment.MarshalYAML()
	if err != nil {
		return nil, err
	}
	if err := folder.SaveExperiment(asRun); err != nil {
		return nil, err
	}
	lab, err := libvirt.Open(ctx, libvirt.Options{
		Runtime:     sandbox.RuntimeDir,
		Cache:       e.Cache,
		Accelerator: e.Accelerator,
		Tell:        e.View.Note,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	return Run(ctx, Request{
		Plan: e.Plan, Materials: materials, Lab: lab, Folder: folder,
		View: e.View, Baseline: e.Baseline, ID: e.ID, Version: e.Version,
	})
}
