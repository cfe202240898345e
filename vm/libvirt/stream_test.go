package libvirt

import (
	"testing"
)

// TestXDR compares the packets' encoding with RFC 4506.
func TestXDR(t *testing.T) {
	for _, tc := range []struct {
		got  []byte
		want string
	}{
		{appendString(nil, "abcde"), "\x00\x00\x00\x05abcde\x00\x00\x00"},
		{appendString(nil, "abcd"), "\x00\x00\x00\x04abcd"},
		{appendOptional(nil, ""), "\x00\x00\x00\x00"},
		{appendOptional(nil, "a"), "\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00"},
		{appendUint32(nil, 0x01020304), "\x01\x02\x03\x04"},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
	if needsPolkit([]byte{0, 0, 0, 1, 0, 0, 0, 0}) ||
		!needsPolkit([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2}) {
		t.Error("polkit is not where it is")
	}
}

// FuzzRemoteError decodes arbitrary errors of a daemon.
func FuzzRemoteError(f *testing.F) {
	const header = "\x00\x00\x00\x26\x00\x00\x00\x0a\x00\x00\x00\x01" // code, domain, flag
	f.Add([]byte(header + "\x00\x00\x00\x05sorry\x00\x00\x00"))
	f.Add([]byte(header + "\xff\xff\xff\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if err := remoteError(payload); err == nil {
			t.Error("an error that is none")
		}
		needsPolkit(payload)
	})
}
