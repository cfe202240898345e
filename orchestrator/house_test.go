package orchestrator

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is a file of ctload's own Go code.
type source struct {
	*ast.File
	folder string // from the root
	test   bool
}

// sources parses all of ctload's Go code.
func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	files := token.NewFileSet()
	var list []source
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".go" {
			return err
		}
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../")
		list = append(list, source{file, folder, strings.HasSuffix(name, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, list
}

// matchers are the functions of strings and regexp that search for a text, which is their last
// argument.
var matchers = map[string][]string{
	"strings": {"HasPrefix", "HasSuffix", "Contains", "Index", "Cut", "CutPrefix", "CutSuffix",
		"TrimPrefix", "TrimSuffix", "EqualFold", "Split"},
	"regexp": {"MustCompile", "Compile", "MatchString"},
}

// someWords matches text for readers, such as a sentence of the program.
var someWords = regexp.MustCompile(`[A-Za-z]{3}.* |^[A-Z]{3,} |[a-z]{3,}: `)

// elsewhere are texts with words that are no sentences of ctload, though it writes them as well.
var elsewhere = []string{
	"nf_conntrack ", // a line of /proc/modules
	"deb ",          // a line of sources.list
	"bare init",     // a line of another program, on a console
	"flush ruleset", // a statement of nft
	"first ",        // a word of the language

	"page allocation failure|", // a pattern of the kernel's words, in two packages
}

// TestNothingMatchesOwnSentences requires typed decisions: no code searches a text for words that
// another line of ctload writes.
func TestNothingMatchesOwnSentences(t *testing.T) {
	files, list := sources(t)
	type match struct {
		text string
		at   token.Pos
	}
	var matches []match
	written := map[token.Pos]string{}
	for _, file := range list {
		if file.test {
			continue
		}
		sought := map[*ast.BasicLit]bool{}
		ast.Inspect(file.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				fun, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || len(n.Args) == 0 {
					break
				}
				of, ok := fun.X.(*ast.Ident)
				if !ok || !slices.Contains(matchers[of.Name], fun.Sel.Name) {
					break
				}
				ast.Inspect(n.Args[len(n.Args)-1], func(n ast.Node) bool {
					if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
						sought[literal] = true
						if text, err := strconv.Unquote(literal.Value); err == nil &&
							someWords.MatchString(text) {
							matches = append(matches, match{text, literal.Pos()})
						}
					}
					return true
				})
			case *ast.ImportSpec, *ast.Field: // paths and tags
				return false
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING &&
					!sought[n] {
					written[n.Pos()] = text
				}
			}
			return true
		})
	}
	for _, m := range matches {
		if slices.Contains(elsewhere, m.text) {
			continue
		}
		for _, at := range slices.Sorted(maps.Keys(written)) {
			if strings.Contains(written[at], m.text) {
				t.Errorf("%s looks for %q, which %s writes: decide by a type", files.Position(m.at),
					m.text, files.Position(at))
				break
			}
		}
	}
	if len(matches) == 0 {
		t.Error("no code looks for any words: the test sees nothing")
	}
}

// calledByOthers are methods that the standard library and other libraries call.
var calledByOthers = []string{
	"String", "Error", "Unwrap", "MarshalText", "UnmarshalText", "MarshalJSON", "UnmarshalJSON",
	"MarshalYAML", "UnmarshalYAML",
	"Set", "Type", "Write", "Read", "Close", "Len", "Less", "Swap", "Push", "Pop", "Marshal",
	"Unmarshal", "Name", "Visit",
	"LocalAddr", "RemoteAddr", "SetDeadline", "SetReadDeadline", "SetWriteDeadline",
}

// TestExportedNamesHaveUsers refuses exported names of a package that no other package uses. A type
// may also be part of another exported declaration; a constant may be one of several of an exported
// type, or the default of a field that other packages leave out.
func TestExportedNamesHaveUsers(t *testing.T) {
	files, list := sources(t)
	used := map[string]bool{}     // folder.Name
	selected := map[string]bool{} // any .Name outside of its folder is one of these: name@folder
	wanted := map[string]bool{}   // methods of interfaces
	for _, file := range list {
		imports := map[string]string{}
		for _, spec := range file.Imports {
			full, _ := strconv.Unquote(spec.Path.Value)
			if other, ours := strings.CutPrefix(full, module); ours {
				name := path.Base(other)
				if spec.Name != nil {
					name = spec.Name.Name
				}
				imports[name] = other
			}
		}
		ast.Inspect(file.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if of, ok := n.X.(*ast.Ident); ok && imports[of.Name] != "" {
					used[imports[of.Name]+"."+n.Sel.Name] = true
				}
				selected[n.Sel.Name+"@"+file.folder] = true
			case *ast.InterfaceType:
				for _, method := range n.Methods.List {
					for _, name := range method.Names {
						wanted[name.Name] = true
					}
				}
			}
			return true
		})
	}
	// outside reports whether another folder selects a method or field of that name.
	outside := func(name, folder string) bool {
		for s := range selected {
			if of, where, _ := strings.Cut(s, "@"); of == name && where != folder {
				return true
			}
		}
		return false
	}
	part := map[string]bool{} // names in exported declarations
	mention := func(folder string, n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				part[folder+"."+id.Name] = true
			}
			return true
		})
	}
	type name struct {
		folder, name string
		at           token.Pos
		method       bool
	}
	var names []name
	for _, file := range list {
		if file.test || file.Name.Name == "main" {
			continue
		}
		for _, declared := range file.Decls {
			switch d := declared.(type) {
			case *ast.FuncDecl:
				if !d.Name.IsExported() {
					continue
				}
				mention(file.folder, d.Type)
				names = append(names, name{file.folder, d.Name.Name, d.Pos(), d.Recv != nil})
			case *ast.GenDecl:
				typed := false
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						if s.Name.IsExported() {
							mention(file.folder, s.Type)
							names = append(names, name{file.folder, s.Name.Name, s.Pos(), false})
						}
					case *ast.ValueSpec:
						if of, ok := s.Type.(*ast.Ident); ok {
							typed = of.IsExported()
						}
						if d.Tok == token.CONST && typed {
							continue
						}
						for _, id := range s.Names {
							if id.IsExported() && !(d.Tok == token.CONST &&
								strings.HasPrefix(id.Name, "Default")) {
								names = append(names, name{file.folder, id.Name, id.Pos(), false})
							}
						}
					}
				}
			}
		}
	}
	var unused []string
	for _, n := range names {
		switch {
		case n.method && (slices.Contains(calledByOthers, n.name) || wanted[n.name] ||
			outside(n.name, n.folder)):
		case !n.method && (used[n.folder+"."+n.name] || part[n.folder+"."+n.name]):
		default:
			unused = append(unused, fmt.Sprintf("%s: %s.%s has no user outside of its package",
				files.Position(n.at), path.Base(n.folder), n.name))
		}
	}
	slices.Sort(unused)
	for _, text := range unused {
		t.Error(text)
	}
}
