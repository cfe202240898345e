package tuning

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// savedIPVS is the output of ipvsadm 1.31 for services that were given in its own short form.
const savedIPVS = `-A -t 10.210.1.1:80 -s rr
-a -t 10.210.1.1:80 -r 10.210.2.2:80 -m -w 1
-A -u 10.210.1.1:53 -s wlc
`

func TestIPVSServices(t *testing.T) {
	want := []string{"-A -t 10.210.1.1:80", "-a -t 10.210.1.1:80 -r 10.210.2.2:80",
		"-A -u 10.210.1.1:53"}
	if diff := cmp.Diff(want, ipvsServices("# a comment\n\n"+savedIPVS+"-C\n")); diff != "" {
		t.Error(diff)
	}
	long := "--add-service --tcp-service 10.210.1.1:80 --scheduler rr\n" +
		"--add-server --tcp-service 10.210.1.1:80 --real-server 10.210.2.2:80 --masquerading\n"
	if diff := cmp.Diff(want[:2], ipvsServices(long)); diff != "" {
		t.Error(diff)
	}
}

func TestIPVSDifferences(t *testing.T) {
	asked := Settings{IPVS: "-A -t 10.210.1.1:80 -s rr\n-a -t 10.210.1.1:80 -r 10.210.2.2:80 -m\n"}
	if got := Differences(asked, State{IPVS: savedIPVS}); len(got) > 0 {
		t.Errorf("what is there is missed: %q", got)
	}
	asked.IPVS += "-a -t 10.210.1.1:80 -r 10.210.2.3:80 -m\n"
	if got := Differences(asked, State{IPVS: savedIPVS}); len(got) != 1 ||
		got[0] != "IPVS: -a -t 10.210.1.1:80 -r 10.210.2.3:80 is not in the kernel" {
		t.Errorf("of a server that is not there it says %q", got)
	}
	if got := Differences(asked,
		State{Unread: map[string]string{"ipvs": "no such tool"}}); len(got) != 1 {
		t.Errorf("of services that could not be listed it says %q", got)
	}
}
