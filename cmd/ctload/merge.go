package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
)

type mergeFlags struct {
	out string
	judgeFlags
}

func mergeCommand() *cobra.Command {
	var f mergeFlags
	cmd := &cobra.Command{
		Use:   "merge DIR... --out RUN",
		Short: "join the shards of a run, or of a search, and judge them",
		Long: `Joins what ctload run --shard, or ctload search --shard, has measured on several
hosts into one run: every trial as it was measured, and the thresholds judged once over all. The
merged run equals one that a single host has made, but for times.

  ctload merge shards/* --out runs/whole

It refuses parts of unlike runs, and shards and trials that two folders have. Where trials are
missing it names them with their shards, and ends with 4.`,
		Args: needs(1, 100_000, "the folders of the shards"),
		RunE: f.merge,
	}
	flags := cmd.Flags()
	flags.VarP(textFlag(&f.out, "folder", "runs/whole"), "out", "o",
		"run folder (default: runs/EXPERIMENT-merged-TIME)")
	f.register(flags)
	return cmd
}

func (f *mergeFlags) merge(cmd *cobra.Command, args []string) (err error) {
	if f.files, err = reports.ParseFiles(f.reports); err != nil {
		return err
	}
	if f.out != "" {
		if err := results.CheckNew(f.out); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	var parts []*results.Folder
	defer func() {
		for _, part := range parts {
			err = errors.Join(err, part.Close())
		}
	}()
	for _, path := range args {
		part, err := results.Open(path)
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	merged, err := orchestrator.Merge(parts)
	if err != nil {
		return err
	}
	for _, text := range merged.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", text)
	}
	if merged.Search != nil {
		return f.mergedSearch(cmd, merged)
	}
	if err := results.AddThresholds(merged.Run, f.thresholds); err != nil {
		return fmt.Errorf("--threshold: %w", err)
	}
	baseline, err := f.load(cmd)
	if err == nil && baseline != nil && merged.Missing == nil {
		err = baseline.Judge(merged.Run)
	}
	if err != nil {
		return err
	}
	folder, err := f.write(merged)
	if err != nil {
		return host(err)
	}
	defer folder.Close()
	err = f.print(cmd.OutOrStdout(), merged.Run, folder)
	fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	if err != nil {
		return host(err)
	}
	if merged.Missing != nil {
		return missing(merged.Missing)
	}
	return f.conclusion(merged.Run)
}

// mergedSearch writes, prints and judges a merged search.
func (f *mergeFlags) mergedSearch(cmd *cobra.Command, merged *orchestrator.Merged) error {
	switch {
	case !slices.Contains(reports.SearchFormats(), f.format):
		return fmt.Errorf("--format: a search has %s, not %s",
			strings.Join(reports.SearchFormats(), ", "), f.format)
	case f.thresholds != nil || f.reports != nil || f.verbose:
		return errors.New("--threshold, --report and --verbose: they go with a run, and this is " +
			"a search")
	}
	before, err := earlierSearch(f.baseline, merged.Search.Search)
	if err != nil {
		return err
	}
	folder, err := f.write(merged)
	if err != nil {
		return host(err)
	}
	defer folder.Close()
	options := f.options()
	options.Series, options.Trials = folder, merged.Run
	err = reports.Search(cmd.OutOrStdout(), f.format, merged.Search, options)
	fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	switch {
	case err != nil:
		return host(err)
	case merged.Missing != nil:
		return missing(merged.Missing)
	}
	return judgeSearch(merged.Search.Search, before)
}

// write makes the folder of the merged run.
func (f *mergeFlags) write(merged *orchestrator.Merged) (folder *results.Folder, err error) {
	if f.out != "" {
		folder, err = results.Create(f.out)
	} else {
		folder, err = results.CreateFree(filepath.Join("runs", merged.Run.Experiment+"-merged-"+
			time.Now().Format("20060102-150405")))
	}
	if err != nil {
		return nil, err
	}
	f.out = folder.Path()
	merged.Run.ID = filepath.Base(f.out)
	if err := merged.Write(folder); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

// missing returns the error of a merge that lacks these trials or scenarios.
func missing(list []string) error {
	text := "the merged run is unfinished; missing: " + strings.Join(list, "\nmissing: ")
	return &statusError{status: statusInvalid, Err: errors.New(text)}
}
