package vm

import (
	"io"
	"os"
	"time"
)

// MaxConsole bounds the kept part of a machine's console, in bytes: a guest may print without end.
const MaxConsole = 8 << 20

// ReadConsole returns the text of a console's file, up to [MaxConsole]; none where it is missing.
func ReadConsole(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, MaxConsole))
	return string(text)
}

// BoundConsole cuts a console's file to [MaxConsole] once a second, until stop is called. Of a
// program that appends, the file grows no further; of another one it has holes.
func BoundConsole(path string) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	cut := func() {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() &&
			info.Size() > MaxConsole {
			_ = os.Truncate(path, MaxConsole)
		}
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				cut()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-done
		cut()
	}
}
