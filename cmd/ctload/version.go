package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version) in builds by make; empty in others.
var version string

// buildInfo describes this build of ctload. A field is empty where the build does not know it.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the commit's files had changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() buildInfo {
	info, _ := debug.ReadBuildInfo()
	return describeBuild(version, info)
}

// describeBuild takes the version from the linker, else from the main module, where go build and go
// install put it; "unknown" without any. info may be nil.
func describeBuild(linked string, info *debug.BuildInfo) buildInfo {
	b := buildInfo{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	module := ""
	if info != nil {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		if info.Main.Version != "(devel)" {
			module = info.Main.Version
		}
	}
	b.Version = cmp.Or(linked, module, "unknown")
	return b
}

func (b buildInfo) String() string {
	commit := ""
	if b.Commit != "" {
		commit = ", commit " + b.Commit
		if b.Modified {
			commit += " with changes"
		}
	}
	return fmt.Sprintf("ctload %s (%s, %s%s)", b.Version, b.Platform, b.Go, commit)
}

func versionCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version, the platform, Go's version and the commit of this build",
		Args:  takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if format == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b)
			return err
		},
	}
	addFormat(cmd.Flags(), &format, "text", "text", "json")
	return cmd
}
