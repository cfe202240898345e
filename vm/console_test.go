package vm

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBoundConsole floods a console: its file, and what is read of it, stay bounded.
func TestBoundConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if text := ReadConsole(filepath.Join(t.TempDir(), "none")); text != "" {
		t.Errorf("a missing console has %q", text)
	}
	stop := BoundConsole(path)
	if _, err := file.Write(make([]byte, 3*MaxConsole)); err != nil {
		t.Fatal(err)
	}
	if n := len(ReadConsole(path)); n != MaxConsole {
		t.Errorf("read %d bytes", n)
	}
	stop()
	if info, err := file.Stat(); err != nil || info.Size() != MaxConsole {
		t.Errorf("the file has %d bytes (%v)", info.Size(), err)
	}
}
