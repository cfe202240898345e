package scenarios

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// checkKey checks the name of a sysctl, which is the current one already.
func checkKey(p *problems, at Position, key string) {
	if !sysctlForm(key) {
		p.errorf(at, "%s is not the name of a sysctl, such as %s", quote(key), kernels.KeyMax)
		return
	}
	rest, ok := strings.CutPrefix(key, kernels.Prefix)
	if !ok {
		if near := spelling.Nearest(key, []string{kernels.KeyMax, kernels.KeyBuckets}); near != "" && strings.Contains(key, "conntrack") {
			p.errorf(at, "%s is not a setting of connection tracking; did you mean %q?", quote(key), near)
		}
		return
	}
	if slices.Contains(kernels.Settings, rest) {
		return
	}
	if near := spelling.Nearest(rest, kernels.Settings); near != "" {
		p.errorf(at, "%s is not a setting of nf_conntrack; did you mean %q?", quote(key), kernels.Prefix+near)
		return
	}
	p.warnf(at, "%s is not a setting of nf_conntrack that ctload knows; a kernel without it makes the trial invalid", quote(key))
}

// sysctlForm reports whether a text can be the dotted name of a sysctl. Names of interfaces in it
// may hold a slash for a dot.
func sysctlForm(key string) bool {
	parts := strings.Split(key, ".")
	if len(parts) < 2 || len(key) > 200 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/@:") != "" {
			return false
		}
	}
	return true
}
