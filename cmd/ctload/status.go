package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// The exit statuses; scripts rely on them.
const (
	statusOK          = 0
	statusFailed      = 1 // a threshold or a regression
	statusUsage       = 2 // the command line or the experiment
	statusHost        = 3 // the host lacks something, or something on it broke
	statusInvalid     = 4 // a trial was INVALID
	statusInterrupted = 130
)

// statusError ends the program with a status of its own; Err may be nil when the program has
// printed everything.
type statusError struct {
	status int
	Err    error
}

func (e *statusError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.Err.Error()
}

func (e *statusError) Unwrap() error { return e.Err }

// exitStatus returns the status for an error; an error of no known type is cobra's own: usage.
func exitStatus(ctx context.Context, err error) int {
	chosen, ok := errors.AsType[*statusError](err)
	switch {
	case err == nil:
		return statusOK
	case ok:
		return chosen.status
	case is[*results.PartError](err):
		return statusInvalid
	case ctx.Err() != nil:
		return statusInterrupted
	case isHost(err) && !isUsage(err):
		return statusHost
	}
	return statusUsage
}

// host marks an error as one of the host, whatever its type.
func host(err error) error {
	if err == nil || is[*statusError](err) || isUsage(err) {
		return err
	}
	return &statusError{status: statusHost, Err: err}
}

func isUsage(err error) bool {
	return is[*scenarios.InvalidError](err) || is[*guest.UnknownKernelError](err) ||
		is[*results.EvaluationError](err) || is[*results.PartError](err) ||
		is[*compare.UnlikeError](err) || is[*labs.UnfitError](err) || is[*libvirt.URIError](err)
}

func isHost(err error) bool {
	return is[*guest.MissingError](err) || is[*sandbox.ForbiddenError](err) ||
		is[*vm.LostError](err) || is[*vm.BootError](err)
}

// is reports whether an error is, or wraps, one of the type E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// message returns the text for the user, with a remedy where there is one.
func message(err error) string {
	if s, ok := errors.AsType[*statusError](err); err == nil || ok && s.Err == nil {
		return ""
	}
	text := printable.Text(fmt.Sprintf("ctload: %v\n", err)) // it may quote a stranger's file
	if forbidden, ok := errors.AsType[*sandbox.ForbiddenError](err); ok {
		text += forbidden.Fix() + "\n"
	}
	return text
}
