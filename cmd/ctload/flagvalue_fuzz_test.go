package main

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/generators"
)

// FuzzFlags gives each flag of the generators any text: the flag accepts or refuses it, and an
// accepted value makes a spec that can be checked.
func FuzzFlags(f *testing.F) {
	for _, text := range []string{
		"5k", "3000/s", "0-5/s:1s,5/s:1m", "1000:1s", "10/s:5:1m", "0/s-9/s", "80,90-99", "4KiB",
		"0,1", "1e99", "-", ":", "",
	} {
		f.Add(text)
	}
	names := strings.Fields(commonFlags +
		" concurrency ports payload expect hold interval close protocol keep-alive")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range names {
			flags := generateFlags{spec: generators.Spec{
				Kind: generators.TCP, Target: "127.0.0.1", Ports: []uint16{9}, Count: 1,
				Concurrency: 1,
			}}
			if err := flags.declare().Set(name, text); err == nil {
				_ = flags.spec.Validate()
			}
		}
	})
}
