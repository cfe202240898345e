package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
)

func init() {
	makers[actions.Sysctl] = maker{checkSysctl, (*Set).sysctl}
	makers[actions.Buckets] = maker{checkBuckets, (*Set).buckets}
}

// sysctl sets parameters, each a part of its own.
func (s *Set) sysctl(_ context.Context, f Fault) (*change, error) {
	k := s.node.Kernel
	c := &change{}
	for _, asked := range f.Sysctl {
		key, _ := kernels.Key(asked.Key)
		// A parameter outside net. belongs to the host of a namespace.
		if !s.node.Own && !strings.HasPrefix(key, "net.") {
			return nil, &hostError{Kind: f.Kind, What: key}
		}
		before, err := k.ReadSysctl(key)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, s.parameter(key, before))
	}
	c.do = func(context.Context) error {
		for _, asked := range f.Sysctl {
			if err := k.WriteSysctl(asked.Key, asked.Value); err != nil {
				return err
			}
		}
		return nil
	}
	return c, nil
}

// parameter returns the part of one parameter. One that has gone with its module needs no
// restoring.
func (s *Set) parameter(key, before string) *part {
	k := s.node.Kernel
	read := func(context.Context) (string, error) {
		value, err := k.ReadSysctl(key)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return value, err
	}
	return &part{subject: key, read: read, restore: func(ctx context.Context) error {
		if now, err := read(ctx); err != nil || now == before || now == "" {
			return err
		}
		return k.WriteSysctl(key, before)
	}}
}

// hashSubject is the size of the hash, set as a parameter or by its own fault.
const hashSubject = kernels.KeyBuckets

// buckets resizes the hash.
func (s *Set) buckets(_ context.Context, f Fault) (*change, error) {
	before, err := s.node.Kernel.ReadBuckets()
	if err != nil {
		return nil, err
	}
	if before == 0 {
		return nil, errors.New("connection tracking is not loaded")
	}
	return &change{
		parts: []*part{s.hash(before)},
		do:    func(context.Context) error { return s.node.Kernel.SetBuckets(f.Buckets) },
	}, nil
}

func (s *Set) hash(before int) *part {
	k := s.node.Kernel
	return &part{
		subject: hashSubject,
		read: func(context.Context) (string, error) {
			now, err := k.ReadBuckets()
			if err != nil || now == 0 {
				return "", err
			}
			return strconv.Itoa(now), nil
		},
		restore: func(context.Context) error {
			if now, err := k.ReadBuckets(); err != nil || now == before || now == 0 {
				return err
			}
			return k.SetBuckets(before)
		},
	}
}

func checkSysctl(f Fault) error {
	if len(f.Sysctl) == 0 {
		return errors.New("no parameter is given")
	}
	return tuning.Settings{Sysctl: f.Sysctl}.Validate()
}

func checkBuckets(f Fault) error {
	if f.Buckets <= 0 {
		return fmt.Errorf("%d buckets: not a size", f.Buckets)
	}
	return nil
}
