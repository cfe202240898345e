package main

import (
	"encoding"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/libvirt"
)

// flagValue is the value of a flag. Values of one kind have one syntax in all flags, that of
// experiment files. It is a [pflag.Value].
type flagValue struct {
	kind  string             // in the help
	text  string             // as given; the default until then
	free  bool               // any text is valid, or any that is not empty
	words []string           // the valid words; nil: no fixed set
	read  func(string) error // the error says what was given, what is expected, and an example
}

func (v *flagValue) String() string { return v.text }
func (v *flagValue) Type() string   { return v.kind }

// Set implements [pflag.Value].
func (v *flagValue) Set(text string) error {
	err := v.read(text)
	if err == nil {
		v.text = text
	}
	return err
}

// unit returns the value of a flag that is one of the experiment language.
func unit(kind string, into encoding.TextUnmarshaler) *flagValue {
	read := func(text string) error { return into.UnmarshalText([]byte(text)) }
	return &flagValue{kind: kind, read: read}
}

func durationFlag(into *time.Duration) *flagValue {
	return unit("duration", (*scenarios.Duration)(into))
}

// rateFlag returns the value of a rate per second.
func rateFlag(into *float64) *flagValue { return unit("rate", (*scenarios.Rate)(into)) }

// sizeFlag returns the value of a size in bytes.
func sizeFlag[N int | int64](into *N) *flagValue {
	return &flagValue{kind: "size", read: func(text string) error {
		var size scenarios.Size
		err := size.UnmarshalText([]byte(text))
		*into = N(size)
		return err
	}}
}

func (v *flagValue) withDefault(text string) *flagValue {
	if err := v.Set(text); err != nil {
		panic(err) // the default is a constant
	}
	return v
}

// repeatable makes each use of a flag append its text.
func (v *flagValue) repeatable(into *[]string) *flagValue {
	read := v.read
	v.read = func(text string) error {
		err := read(text)
		if err == nil {
			*into = append(*into, text)
		}
		return err
	}
	return v
}

// countFlag returns the value of a number from least to most.
func countFlag[N int | int64](into *N, least, most N) *flagValue {
	return &flagValue{kind: "count", read: func(text string) error {
		var count scenarios.Count
		if err := count.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		if count < scenarios.Count(least) || count > scenarios.Count(most) {
			return fmt.Errorf("must be %d to %d, not %s", least, most, text)
		}
		*into = N(count)
		return nil
	}}
}

func seedFlag(into *uint64) *flagValue {
	return &flagValue{kind: "number", read: func(text string) error {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a seed: a whole number below 2^64, such as 42", text)
		}
		*into = n
		return nil
	}}
}

// shard is the value of --shard; a number of 0: none.
type shard struct{ number, of int }

// shardFlag returns the value of one shard of several, as 2/5.
func shardFlag(into *shard) *flagValue {
	return &flagValue{kind: "I/N", read: func(text string) error {
		left, right, _ := strings.Cut(text, "/")
		number, err := strconv.ParseUint(left, 10, 16)
		of, err2 := strconv.ParseUint(right, 10, 16)
		if err != nil || err2 != nil {
			return fmt.Errorf("%q is no shard, such as 2/5 for the second of five", text)
		}
		if of < 1 || number < 1 || number > of {
			return fmt.Errorf("%q is no shard: of %d they are 1/%[2]d to %[2]d/%[2]d", text,
				max(of, 1))
		}
		*into = shard{int(number), int(of)}
		return nil
	}}
}

// portsFlag returns the value of a list of ports and port ranges. A listener may ask for port 0,
// which stands for a free one.
func portsFlag(into *[]uint16, listening bool) *flagValue {
	return &flagValue{kind: "ports", read: func(text string) error {
		if listening && text == "0" {
			*into = []uint16{0}
			return nil
		}
		var ports []uint16
		for word := range strings.SplitSeq(text, ",") {
			var r scenarios.PortRange
			if err := r.UnmarshalText([]byte(word)); err != nil {
				return err
			}
			ports = append(ports, scenarios.Ports{r}.Expand()...)
		}
		*into = ports
		return nil
	}}
}

func cpusFlag(into *[]int) *flagValue {
	const most = 1 << 13 // CONFIG_NR_CPUS of the largest kernels
	return &flagValue{kind: "list", read: func(text string) error {
		var list []int
		for word := range strings.SplitSeq(text, ",") {
			n, err := strconv.ParseUint(word, 10, 16)
			if err != nil || n >= most {
				return fmt.Errorf("%q is not a list of CPUs, such as 0,1", text)
			}
			list = append(list, int(n))
		}
		*into = list
		return nil
	}}
}

// addWord adds a flag for one of some words, which its usage lists. The default may be empty.
func addWord[S ~string](
	flags *pflag.FlagSet, into *S, name, usage string, byDefault S, words ...S,
) {
	*into = byDefault
	v := &flagValue{kind: "word", text: string(byDefault)}
	for _, word := range words {
		v.words = append(v.words, string(word))
	}
	v.read = func(text string) error {
		if !slices.Contains(v.words, text) {
			return fmt.Errorf("%q is not valid here%s", text, spelling.Hint(text, v.words))
		}
		*into = S(text)
		return nil
	}
	flags.Var(v, name, usage+": "+strings.Join(v.words, ", "))
}

func addFormat(flags *pflag.FlagSet, into *string, byDefault string, formats ...string) {
	addWord(flags, into, "format", "what to print", byDefault, formats...)
}

// namesFlag returns the value of a list of names; a repeated flag appends to it.
func namesFlag(into *[]string, example string) *flagValue {
	return &flagValue{kind: "list", free: true, read: func(text string) error {
		for word := range strings.SplitSeq(text, ",") {
			word = strings.TrimSpace(word)
			if word == "" {
				return fmt.Errorf("%q has an empty name; commas separate names: %s", text, example)
			}
			*into = append(*into, word)
		}
		return nil
	}}
}

// textFlag returns the value of any text that is not empty; what names it.
func textFlag(into *string, what, example string) *flagValue {
	return &flagValue{kind: what, free: true, read: func(text string) error {
		if strings.TrimSpace(text) == "" {
			return fmt.Errorf("%q is no %s, such as %s", text, what, example)
		}
		*into = text
		return nil
	}}
}

func addConnect(flags *pflag.FlagSet, into *[]string, usage string) {
	uri := &flagValue{kind: "URI", read: libvirt.CheckURI}
	flags.Var(uri.repeatable(into), "connect", usage)
}

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
		return fmt.Errorf("%s: write a flag as --NAME VALUE or --NAME=VALUE; %s --help lists them",
			e.GetSpecifiedFlag(), cmd.CommandPath())
	}
	return err
}

// unknownFlag suggests the flag that a word most likely means. letters are those of a group, such
// as -abc, one of which is unknown.
func unknownFlag(cmd *cobra.Command, name, letters string) error {
	if letters != "" {
		return fmt.Errorf("there is no flag -%s (in -%s); %s --help lists the flags",
			name, letters, cmd.CommandPath())
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
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
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
		case len(args) > most:
			surplus := strings.Trim(fmt.Sprintf("%q", args[most:]), "[]")
			return fmt.Errorf("%s takes %s; %s is too much", cmd.CommandPath(), what, surplus)
		}
		return nil
	}
}

func exclusive(cmd *cobra.Command, names ...string) error {
	names = slices.DeleteFunc(names, func(name string) bool { return !cmd.Flags().Changed(name) })
	if len(names) > 1 {
		return fmt.Errorf("--%s: give one of them", strings.Join(names, " and --"))
	}
	return nil
}

var takesNothing = needs(0, 0, "no arguments")
