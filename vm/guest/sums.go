package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileSums, at the top of an entry of the store, holds the [sum] of each of its files, by path. An
// entry of an older ctload has none.
const fileSums = "sums.json"

// sum tells a whole file from one that is cut or damaged. apt has verified where it comes from.
type sum struct {
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc32c"`
}

// damagedError says that a file of the store is not as it was fetched.
type damagedError struct{ path, what string }

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.path, e.what) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf reads a file.
func sumOf(path string) (s sum, err error) {
	file, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer file.Close()
	crc := crc32.New(castagnoli)
	s.Size, err = io.Copy(crc, file)
	s.CRC = crc.Sum32()
	return s, err
}

// writeSums records the files of an entry that is complete.
func writeSums(entry string) error {
	sums := map[string]sum{}
	err := filepath.WalkDir(entry, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(entry, path)
		if err == nil {
			sums[name], err = sumOf(path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record the files of a kernel: %w", err)
	}
	text, err := json.Marshal(sums)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(entry, fileSums), text, 0o644)
}

// checkSums compares the files of an entry with their recorded checksums; the error is then a
// *damagedError. A hundred megabytes take some 50 ms.
func checkSums(entry string) error {
	path := filepath.Join(entry, fileSums)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var sums map[string]sum
	if err := json.Unmarshal(text, &sums); err != nil {
		return &damagedError{path, err.Error()}
	}
	for name, want := range sums {
		path := filepath.Join(entry, name)
		switch got, err := sumOf(path); {
		case err != nil:
			return &damagedError{path, err.Error()}
		case got.Size != want.Size:
			return &damagedError{path, fmt.Sprintf("it has %d bytes of %d", got.Size, want.Size)}
		case got != want:
			return &damagedError{path, "its contents have changed"}
		}
	}
	return nil
}
