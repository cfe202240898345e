package vagrant

import (
	"errors"
	"fmt"
	"strings"
)

// endpoint is the address of a machine, as `vagrant ssh-config` prints it.
type endpoint struct {
	host string // address
	port string
	user string
	keys []string // paths of private keys
}

// parseSSHConfig parses the first Host of an ssh_config(5), as `vagrant ssh-config MACHINE` prints
// it.
func parseSSHConfig(text string) (endpoint, error) {
	e := endpoint{port: "22"}
	hosts := 0
	for line := range strings.Lines(text) {
		keyword, value := option(line)
		switch strings.ToLower(keyword) {
		case "host":
			hosts++
		case "hostname":
			e.host = value
		case "port":
			e.port = value
		case "user":
			e.user = value
		case "identityfile":
			e.keys = append(e.keys, value)
		}
		if hosts > 1 {
			break
		}
	}
	switch {
	case e.host == "":
		return endpoint{}, fmt.Errorf("vagrant ssh-config names no HostName in %q", text)
	case e.user == "":
		return endpoint{}, errors.New("vagrant ssh-config names no User")
	case strings.HasPrefix(e.host, "-") || strings.HasPrefix(e.user, "-"):
		return endpoint{}, fmt.Errorf("vagrant ssh-config names %s@%s, which ssh would take for an option", e.user, e.host)
	}
	return e, nil
}

// option splits a line of ssh_config(5): a keyword, blanks or one "=", and a value that may be in
// quotes.
func option(line string) (keyword, value string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return line, ""
	}
	keyword, value = line[:end], strings.TrimSpace(line[end:])
	if rest, ok := strings.CutPrefix(value, "="); ok {
		value = strings.TrimSpace(rest)
	}
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return keyword, value
}
