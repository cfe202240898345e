package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Paths removes files and folders of this host, with all that is in them. Their last name must
// include the run's id.
type Paths struct{}

// Exists implements [Remover].
func (Paths) Exists(_ context.Context, run Run, e Entry) (bool, error) {
	if err := ours(run, e); err != nil {
		return false, err
	}
	_, err := os.Lstat(e.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Remove implements [Remover].
func (Paths) Remove(_ context.Context, run Run, e Entry) error {
	if err := ours(run, e); err != nil {
		return err
	}
	return os.RemoveAll(e.Name)
}

func ours(run Run, e Entry) error {
	if !filepath.IsAbs(e.Name) || !strings.Contains(filepath.Base(e.Name), run.ID) {
		return fmt.Errorf("%s does not carry the id %s: it is left alone", e.Name, run.ID)
	}
	return nil
}
