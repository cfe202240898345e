// Package scenarios is the experiment language: one YAML file says which machine is under test,
// which load it gets and which kernel configurations are compared. The package loads such files
// strictly, resolves every scenario to its complete configuration, and ships a library of
// experiments. docs/language.md is the reference. The package touches neither the network nor a
// virtual machine.
//
// A file is read in five steps, each in its own source file:
//
//   - parse (tree.go, build.go): YAML becomes a tree of [node], anchors and merge keys expanded,
//     every node with its line and column;
//   - normalise (normalise.go): old spellings become current ones, with a [Warning];
//   - overlay (overlay.go): extends, then the dut and each scenario's overrides on top of it;
//   - expand (matrix.go): a list where one value is meant gives one scenario for each value;
//   - decode and check (decode.go, check.go): the Go types, units, and combinations.
//
// Whatever is wrong is collected in an [InvalidError], so that one reading shows all faults of a
// file.
package scenarios
