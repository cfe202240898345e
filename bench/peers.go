package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The peers, called as their users call them. Each returns its work per second.

var (
	abFailed   = regexp.MustCompile(`Failed requests:\s+([0-9]+)`)
	abRate     = regexp.MustCompile(`Requests per second:\s+([0-9.]+)`)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	h2loadRate = regexp.MustCompile(`finished in [0-9.a-z]+, ([0-9.]+) req/s`)
)

// figure returns a measurement by the figure that a client prints.
func (l *lab) figure(pattern *regexp.Regexp, cpus string, args ...string) measurement {
	return func(ctx context.Context) (float64, error) {
		out, err := l.tool(l.in(ctx, "client", cpus, args...))
		if err != nil {
			return 0, err
		}
		return find(out, pattern)
	}
}

func find(out []byte, pattern *regexp.Regexp) (float64, error) {
	found := pattern.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("no figure like %s in: %s", pattern, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

func (l *lab) ab(cpus, url string, requests int) measurement {
	args := []string{"ab", "-q", "-r", "-c", "100", "-n", strconv.Itoa(requests), url}
	return func(ctx context.Context) (float64, error) {
		out, err := l.tool(l.in(ctx, "client", cpus, args...))
		if err != nil {
			return 0, err
		}
		failed, err := find(out, abFailed)
		if err == nil && failed > float64(requests)/100 {
			err = fmt.Errorf("ab failed %.0f of %d", failed, requests)
		}
		if err != nil {
			return 0, err
		}
		return find(out, abRate)
	}
}

func (l *lab) wrk(cpus, url, threads string) measurement {
	return l.figure(wrkRate, cpus, "wrk", "-t", threads, "-c", "100", "-d", floodTime.String(),
		"-H", "Connection: close", url)
}

// h2load opens a new connection where the server has closed the one before. (With a duration
// instead of a count it hangs then.)
func (l *lab) h2load(cpus, url string) measurement {
	return l.figure(h2loadRate, cpus, "h2load", "--h1", "-t", "2", "-c", "100", "-n", "30000",
		"-H", "Connection: close", url)
}

const nginxConfig = `user root root; daemon off; master_process off; pid nginx.pid;
error_log stderr crit; worker_rlimit_nofile 65535;
events { worker_connections 16384; multi_accept on; }
http {
access_log off; keepalive_timeout 0; client_body_temp_path t1; proxy_temp_path t2;
fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
server { listen 80 backlog=65535; location / {
return 200 "the quick brown fox jumps over the lazy dog, and then once more for the measure\n";
} }
}
`

// nginx starts one worker in the router's namespace.
func (l *lab) nginx(ctx context.Context) (func() error, error) {
	config := filepath.Join(l.folder, "nginx.conf")
	if err := os.WriteFile(config, []byte(nginxConfig), 0o600); err != nil {
		return nil, err
	}
	cmd := l.in(ctx, "router", targetCPU, "nginx", "-p", l.folder, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if _, err := l.ab("", url, 1000)(ctx); err == nil {
			return func() error { return end(cmd) }, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("nginx does not answer"), end(cmd))
		}
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// rest waits for d.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// trafgenSYN writes trafgen's configuration for SYNs from random sources of the crowd, with the
// checksums that connection tracking requires. It returns the name of the file.
func (l *lab) trafgenSYN(ctx context.Context, target string) (string, error) {
	source, err := l.hardwareAddress(ctx, "client", "link")
	hop, hopErr := l.hardwareAddress(ctx, "router", "near")
	if err := errors.Join(err, hopErr); err != nil {
		return "", err
	}
	config := fmt.Sprintf("{ %s, %s, 0x08, 0x00,\n"+
		"0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, csumip(14, 33), 10, 90, drnd(2), %s,\n"+
		"drnd(2), 0, 80, drnd(4), 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, csumtcp(14, 34), 0, 0 }\n",
		octets(hop, ":", "0x"), octets(source, ":", "0x"), octets(target, ".", ""))
	path := filepath.Join(l.folder, "syn.cfg")
	return path, os.WriteFile(path, []byte(config), 0o600)
}

// octets formats an address as trafgen's bytes.
func octets(address, separator, prefix string) string {
	return prefix + strings.Join(strings.Split(address, separator), ", "+prefix)
}

func (l *lab) hardwareAddress(ctx context.Context, namespace, device string) (string, error) {
	out, err := output(l.in(ctx, namespace, "", "cat", "/sys/class/net/"+device+"/address"))
	return strings.TrimSpace(string(out)), err
}
