package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctload/ctload/results"
)

// counterMeaning finds what the DUT's kernel counts in which counter, where the trial's figures
// depend on it: once for each kernel, since the cache keeps it. It changes the DUT, which is about
// to end.
func (t *trial) counterMeaning(ctx context.Context) error {
	if c := t.result.Conntrack; c.InsertFailed == 0 && c.ChainTooLong == 0 {
		return nil
	}
	version, err := t.dut.Agent().ReadFile(ctx, "/proc/version")
	if err != nil {
		return err
	}
	file := t.meaningFile(version)
	if text, err := os.ReadFile(file); err == nil {
		known := new(results.CounterMeaning)
		if json.Unmarshal(text, known) == nil {
			t.result.Meaning = known
			return nil
		}
	}
	found, err := t.dut.Agent().CounterMeaning(ctx)
	if err != nil {
		t.remark(fmt.Sprintf("%s: %v; its counters are read as those of released kernels",
			t.result.Kernel, err))
		return nil
	}
	t.result.Meaning = &found
	return keepMeaning(file, found)
}

// meaningFile returns the file of the cache for a kernel, by its whole version: a distribution
// builds a release several times. Without a cache it is empty.
func (t *trial) meaningFile(version string) string {
	if t.Cache == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(version)))
	name := t.result.Kernel + "-" + hex.EncodeToString(sum[:4]) + ".json"
	return filepath.Join(t.Cache, "counters", filepath.Base(name))
}

// keepMeaning writes a file of the cache as a whole: runs may write it at one time.
func keepMeaning(file string, m results.CounterMeaning) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode what the counters count: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("keep what the counters count: %w", err)
	}
	part, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return fmt.Errorf("keep what the counters count: %w", err)
	}
	_, err = part.Write(text)
	if closeErr := part.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		_ = os.Remove(part.Name())
		return fmt.Errorf("keep what the counters count: %w", err)
	}
	return nil
}
