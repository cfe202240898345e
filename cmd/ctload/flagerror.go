package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/spelling"
)

// flagError words in ctload's own terms what is wrong with the flags of a command line.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0)) // the flags belong to it
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(cmd, e.GetSpecifiedName(), e.GetSpecifiedShortnames())
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value: %s", e.GetFlag().Name, e.GetFlag().Usage)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if _, own := e.GetFlag().Value.(*flagValue); own {
			return fmt.Errorf("--%s: %w", e.GetFlag().Name, e.Unwrap())
		}
		return fmt.Errorf("--%s: must be true or false, not %q", e.GetFlag().Name, e.GetValue())
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return fmt.Errorf("%s: a flag is written --NAME VALUE or --NAME=VALUE; %s --help lists them", e.GetSpecifiedFlag(), cmd.CommandPath())
	}
	return err
}

// unknownFlag suggests the flag that a word most likely means. letters are those of a group, such
// as -abc, one of which is unknown.
func unknownFlag(cmd *cobra.Command, name, letters string) error {
	if letters != "" {
		return fmt.Errorf("there is no flag -%s (in -%s); %s --help lists the flags", name, letters, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := spelling.Nearest(name, names); near != "" {
		return fmt.Errorf("there is no flag --%s; did you mean --%s?", name, near)
	}
	return fmt.Errorf("there is no flag --%s; %s --help lists the flags", name, cmd.CommandPath())
}

// group makes cmd a command that only has subcommands: by itself it prints its help, and another
// word is an error.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// unknownCommand suggests the subcommand that a word most likely means.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), word, spelling.Hint(word, names))
}

// needs refuses other numbers of arguments, and says what the command takes.
func needs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s needs %s", cmd.CommandPath(), what)
		case len(args) > most && most == 0:
			return fmt.Errorf("%s takes no arguments, but there is %q", cmd.CommandPath(), args[0])
		case len(args) > most:
			return fmt.Errorf("%s takes %s, but there is %s as well", cmd.CommandPath(), what, strings.Join(quoted(args[most:]), " "))
		}
		return nil
	}
}

func quoted(words []string) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = fmt.Sprintf("%q", w)
	}
	return list
}

// exclusive refuses more than one of some flags.
func exclusive(cmd *cobra.Command, names []string) error {
	var given []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return fmt.Errorf("%s: give one of them", strings.Join(given, " and "))
	}
	return nil
}

// takesNothing refuses arguments.
var takesNothing = needs(0, 0, "")
