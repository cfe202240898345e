package results

import "testing"

// A rule about some packets of each connection exempts no connection.
func TestExempts(t *testing.T) {
	for rules, want := range map[string]bool{
		"-A PREROUTING -p tcp --dport 80 -j CT --notrack":                 true,
		"-A PREROUTING -p tcp -m tcp --dport 80 -j NOTRACK":               true,
		"-A PREROUTING -p tcp -m tcp --tcp-flags FIN FIN -j CT --notrack": false,
		"-A PREROUTING -p tcp --dport 80 --syn -j CT --notrack":           false,
		"-A PREROUTING -p tcp -m length --length 0:80 -j CT --notrack":    false,
		"-A INPUT -p tcp --dport 80 -j ACCEPT":                            false,
	} {
		if got := (Configuration{Rules: rules}).exempts(); got != want {
			t.Errorf("%s: exempts is %v", rules, got)
		}
	}
	if !(Configuration{NFT: "tcp dport 80 notrack"}).exempts() {
		t.Error("a notrack of nft is missed")
	}
}
